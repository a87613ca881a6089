package jobfactory_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"bitbucket-runner-scaler/jobfactory"
)

// deployed is every object of the files that a kustomization names.
func deployed(t *testing.T, dir string) ([]any, *kustomization) {
	t.Helper()
	var objects []any
	file := func(name string) []any {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return decodeStrictly(t, data)
	}
	k := only[kustomization](t, file("kustomization.yaml"))
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no manifests: %v", dir, err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		if name != "kustomization.yaml" && name != "runners_config.yaml" && !slices.Contains(k.Resources, name) {
			t.Errorf("%s is not named in the kustomization", path)
		}
	}
	for _, name := range k.Resources {
		objects = append(objects, file(name)...)
	}
	return objects, k
}

// only is the one object of a type.
func only[T any](t *testing.T, objects []any) *T {
	t.Helper()
	var found []*T
	for _, object := range objects {
		if o, ok := object.(*T); ok {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want 1", len(found), *new(T))
	}
	return found[0]
}

func TestTheExampleIsWhatItsConfigurationRenders(t *testing.T) {
	got, _ := deployed(t, "../deploy/examples")
	want := decodeStrictly(t, render(t, "../deploy/examples/runners_config.yaml"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deploy/examples/scaledjob.yaml: want what is rendered -, got +:\n%s", diff)
	}
}

func TestTheImageHasOneName(t *testing.T) {
	base, baseImages := deployed(t, "../deploy/base")
	examples, exampleImages := deployed(t, "../deploy/examples")
	if diff := cmp.Diff(baseImages.Images, exampleImages.Images); diff != "" {
		t.Errorf("kustomizations of base -, examples + differ in the image:\n%s", diff)
	}
	scaler := only[appsv1.Deployment](t, base).Spec.Template.Spec.Containers[0].Image
	sidecar := only[kedav1alpha1.ScaledJob](t, examples).Spec.JobTargetRef.Template.Spec.InitContainers[0].Image
	want := baseImages.Images[0].Name + ":latest"
	if got := []string{scaler, sidecar, jobfactory.DefaultSidecarImage}; !cmp.Equal(got, []string{want, want, want}) {
		t.Errorf("images of scaler, sidecar, default: %q, want %q, which the kustomizations rename", got, want)
	}
}

func TestTheDefaultAddressIsTheServices(t *testing.T) {
	objects, _ := deployed(t, "../deploy/base")
	service := only[corev1.Service](t, objects)
	if got, want := service.Name+"."+service.Namespace+".svc.cluster.local:9090", jobfactory.DefaultScalerAddress; got != want {
		t.Errorf("service is %q, default scaler address %q", got, want)
	}
	deployment := only[appsv1.Deployment](t, objects)
	if diff := cmp.Diff(deployment.Spec.Template.Labels, mergeInto(service.Spec.Selector, deployment.Spec.Template.Labels)); diff != "" {
		t.Errorf("the Service selects other pods than the Deployment's:\n%s", diff)
	}
	ports := deployment.Spec.Template.Spec.Containers[0].Ports
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool {
			return p.Name == port.TargetPort.StrVal && p.ContainerPort == port.Port
		}) {
			t.Errorf("port %s %d leads to no port of the container", port.Name, port.Port)
		}
	}
}

func mergeInto(selector, labels map[string]string) map[string]string {
	merged := map[string]string{}
	for key, value := range labels {
		merged[key] = value
	}
	for key, value := range selector {
		merged[key] = value
	}
	return merged
}

func TestTheScalerMayDoWhatItNeedsAndNoMore(t *testing.T) {
	objects, _ := deployed(t, "../deploy/base")
	role := only[rbacv1.ClusterRole](t, objects)
	got := map[string][]string{}
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				got[group+"/"+resource] = rule.Verbs
			}
		}
		if slices.Contains(rule.Resources, "namespaces") && !cmp.Equal(rule.ResourceNames, []string{"kube-system"}) {
			t.Errorf("namespaces: names %q, want kube-system alone", rule.ResourceNames)
		}
	}
	want := map[string][]string{
		"keda.sh/scaledjobs":                 {"get", "list", "watch"},
		"batch/jobs":                         {"get", "list", "watch"},
		"/pods":                              {"get", "list", "watch"},
		"/events":                            {"create", "patch"},
		"events.k8s.io/events":               {"create", "patch"},
		"authentication.k8s.io/tokenreviews": {"create"},
		"/namespaces":                        {"get"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rights: want -, got +:\n%s", diff)
	}
	binding := only[rbacv1.ClusterRoleBinding](t, objects)
	account := only[corev1.ServiceAccount](t, objects)
	deployment := only[appsv1.Deployment](t, objects)
	if binding.RoleRef.Name != role.Name || binding.Subjects[0].Name != account.Name || binding.Subjects[0].Namespace != account.Namespace ||
		deployment.Spec.Template.Spec.ServiceAccountName != account.Name {
		t.Errorf("role, binding, account and Deployment do not name each other: %v, %v", binding.RoleRef, binding.Subjects)
	}
}

func TestTheScalerMeetsTheRestrictedPodSecurityStandard(t *testing.T) {
	objects, _ := deployed(t, "../deploy/base")
	namespace := only[corev1.Namespace](t, objects)
	if got := namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" || namespace.Name != jobfactory.ControlPlaneNamespace {
		t.Errorf("namespace %s enforces %q, want %s to enforce restricted", namespace.Name, got, jobfactory.ControlPlaneNamespace)
	}
	deployment := only[appsv1.Deployment](t, objects)
	pod := deployment.Spec.Template.Spec
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %v", s)
	}
	if s := pod.Containers[0].SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !cmp.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("container: %v", s)
	}
	// Two scalers at once would both be writers of runners.
	if *deployment.Spec.Replicas != 1 || deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		t.Errorf("replicas %d, strategy %s, want 1, Recreate", *deployment.Spec.Replicas, deployment.Spec.Strategy.Type)
	}
}
