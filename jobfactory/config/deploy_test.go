package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/jobfactory"
)

// deployed returns the objects of the files that a kustomization names.
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
		if name != "kustomization.yaml" && name != "runners_config.yaml" && !slices.Contains(append(k.Configurations, k.Resources...), name) {
			t.Errorf("%s is not named in the kustomization", path)
		}
	}
	for _, name := range k.Resources {
		objects = append(objects, file(name)...)
	}
	return objects, k
}

// only returns the only object of a type.
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

func TestTheExampleIsRenderedFromItsConfiguration(t *testing.T) {
	got, _ := deployed(t, "../../deploy/examples")
	want := decodeStrictly(t, render(t, "../../deploy/examples/runners_config.yaml"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deploy/examples/scaledjob.yaml: rendered -, got +:\n%s", diff)
	}
}

func TestTheImageHasOneName(t *testing.T) {
	base, baseImages := deployed(t, "../../deploy/base")
	examples, exampleImages := deployed(t, "../../deploy/examples")
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

func TestTheDefaultAddressIsThatOfTheService(t *testing.T) {
	objects, _ := deployed(t, "../../deploy/base")
	service := only[corev1.Service](t, objects)
	if got, want := service.Name+"."+service.Namespace+".svc.cluster.local:9090", jobfactory.DefaultScalerAddress; got != want {
		t.Errorf("service is %q, default scaler address %q", got, want)
	}
	deployment := only[appsv1.Deployment](t, objects)
	// The leader puts the label on its own pod; a manifest must not.
	leader := map[string]string{kube.RoleLabel: kube.RoleLeader}
	if diff := cmp.Diff(service.Spec.Selector, mergeInto(leader, service.Spec.Selector)); diff != "" {
		t.Errorf("the Service does not only select the leader:\n%s", diff)
	}
	if _, ok := deployment.Spec.Template.Labels[kube.RoleLabel]; ok {
		t.Error("every replica starts with the leader's label")
	}
	delete(service.Spec.Selector, kube.RoleLabel)
	if diff := cmp.Diff(deployment.Spec.Template.Labels, mergeInto(service.Spec.Selector, deployment.Spec.Template.Labels)); diff != "" {
		t.Errorf("the Service does not select the Deployment's pods:\n%s", diff)
	}
	ports := deployment.Spec.Template.Spec.Containers[0].Ports
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool {
			return p.Name == port.TargetPort.StrVal && p.ContainerPort == port.Port
		}) {
			t.Errorf("port %s %d is not a port of the container", port.Name, port.Port)
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

// permissions returns a role's verbs by group, resource and, if it is limited to one,
// name.
func permissions(rules []rbacv1.PolicyRule) map[string][]string {
	got := map[string][]string{}
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				key := strings.Join(append([]string{group, resource}, rule.ResourceNames...), "/")
				got[key] = append(got[key], rule.Verbs...)
			}
		}
	}
	return got
}

func TestTheScalerHasOnlyThePermissionsItNeeds(t *testing.T) {
	objects, _ := deployed(t, "../../deploy/base")
	cluster, namespaced := only[rbacv1.ClusterRole](t, objects), only[rbacv1.Role](t, objects)
	want := map[string][]string{
		"keda.sh/scaledjobs":                     {"get", "list", "watch", "patch"},
		"batch/jobs":                             {"get", "list", "watch", "delete"},
		"/pods":                                  {"get", "list", "watch"},
		"/events":                                {"create", "patch", "list"},
		"events.k8s.io/events":                   {"create", "patch"},
		"authentication.k8s.io/tokenreviews":     {"create"},
		"/namespaces/kube-system":                {"get"},
		"/configmaps":                            {"create"},
		"/configmaps/bitbucket-runner-scaler-ca": {"get", "list", "update", "delete"},
	}
	if diff := cmp.Diff(want, permissions(cluster.Rules)); diff != "" {
		t.Errorf("cluster-wide permissions: want -, got +:\n%s", diff)
	}
	want = map[string][]string{
		"coordination.k8s.io/leases":                         {"create"},
		"coordination.k8s.io/leases/bitbucket-runner-scaler": {"get", "watch", "update"},
		"/pods":       {"list", "patch"},
		"/configmaps": {"create"},
		"/configmaps/bitbucket-runner-scaler-scopes": {"get", "update"},
		"/configmaps/bitbucket-runner-scaler-places": {"get"},
		"/secrets":                             {"create"},
		"/secrets/bitbucket-runner-scaler-tls": {"get", "update"},
	}
	if diff := cmp.Diff(want, permissions(namespaced.Rules)); diff != "" {
		t.Errorf("permissions in its own namespace: want -, got +:\n%s", diff)
	}
	account, deployment := only[corev1.ServiceAccount](t, objects), only[appsv1.Deployment](t, objects)
	binding, bindingHere := only[rbacv1.ClusterRoleBinding](t, objects), only[rbacv1.RoleBinding](t, objects)
	for name, subjects := range map[string][]rbacv1.Subject{binding.RoleRef.Name: binding.Subjects, bindingHere.RoleRef.Name: bindingHere.Subjects} {
		if name != cluster.Name && name != namespaced.Name || subjects[0].Name != account.Name || subjects[0].Namespace != account.Namespace {
			t.Errorf("roles, bindings and account do not match: %s, %v", name, subjects)
		}
	}
	if got := deployment.Spec.Template.Spec.ServiceAccountName; got != account.Name {
		t.Errorf("the Deployment runs as %q", got)
	}
}

func TestOneReplicaStaysDuringAnUpdate(t *testing.T) {
	objects, _ := deployed(t, "../../deploy/base")
	deployment, budget := only[appsv1.Deployment](t, objects), only[policyv1.PodDisruptionBudget](t, objects)
	if got := *deployment.Spec.Replicas; got != 2 {
		t.Errorf("%d replicas, want 2", got)
	}
	update := deployment.Spec.Strategy.RollingUpdate
	if update == nil || update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.IntValue() != 1 {
		t.Errorf("rolling update: got %+v, want one additional and none unavailable", update)
	}
	if diff := cmp.Diff(deployment.Spec.Selector, budget.Spec.Selector); diff != "" || budget.Spec.MaxUnavailable.IntValue() != 1 {
		t.Errorf("the budget is %v, or for other pods than the Deployment's: %s", budget.Spec.MaxUnavailable, diff)
	}
	env := map[string]string{}
	for _, variable := range deployment.Spec.Template.Spec.Containers[0].Env {
		if variable.ValueFrom != nil && variable.ValueFrom.FieldRef != nil {
			env[variable.Name] = variable.ValueFrom.FieldRef.FieldPath
		}
	}
	if diff := cmp.Diff(map[string]string{"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}, env); diff != "" {
		t.Errorf("variables with the pod's fields: want -, got +:\n%s", diff)
	}
}

func TestTheScalerMeetsTheRestrictedPodSecurityStandard(t *testing.T) {
	objects, _ := deployed(t, "../../deploy/base")
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
}
