package deploytest

import (
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// second renders what a user of an overlay writes to install it again: only another
// namespace.
func second(t *testing.T, overlay string) objects {
	t.Helper()
	return inOwnFolder(t, "namespace: second\nresources: [../deploy/overlays/"+overlay+"]\n")
}

// The runners' policy and the groups have namespaces of their own, which an overlay that
// sets one must not contain.
const withRunners = "network-policy"

func TestAnotherNamespaceIsAnotherInstallation(t *testing.T) {
	for _, overlay := range overlays(t) {
		if overlay == withRunners {
			continue
		}
		t.Run(overlay, func(t *testing.T) {
			first, second := kustomized(t, "overlays/"+overlay), second(t, overlay)
			if len(first) != len(second) {
				t.Errorf("%d objects and %d", len(first), len(second))
			}
			for key, fields := range second {
				if _, both := first[key]; both && key != "Namespace /team-a" && key != "Namespace /team-b" {
					t.Errorf("%s belongs to both: the second would replace the first's", key)
				}
				if text := flat(fields); inControlPlane.MatchString(text) || strings.Contains(text, "$(") && !strings.Contains(text, "$(KUBERNETES_SERVICE_HOST)") {
					t.Errorf("%s names the first's namespace: %s", key, text)
				}
			}
			binding := as[rbacv1.ClusterRoleBinding](t, second, "ClusterRoleBinding /"+name+"-second")
			if binding.RoleRef.Name != name+"-second" || binding.Subjects[0].Namespace != "second" {
				t.Errorf("the binding gives %s to %v", binding.RoleRef.Name, binding.Subjects)
			}
		})
	}
}

func TestInstallationsShareANamespaceOfRunners(t *testing.T) {
	// The control plane in another namespace, with the runners' policy beside it.
	second := inFolders(t, map[string]string{
		"/control-plane/kustomization.yaml": "namespace: second\nresources: [../deploy/base]\n",
		"/overlay/kustomization.yaml":       "resources: [../control-plane]\ncomponents: [../deploy/components/network-policy]\n",
	})
	chart, _, err := charted("second", parsed(t, "{networkPolicy: {enabled: true}}"))
	if err != nil {
		t.Fatal(err)
	}
	first := kustomized(t, "overlays/"+withRunners)
	for way, all := range map[string]objects{"kustomize": second, "chart": chart} {
		const policy = "NetworkPolicy " + runners + "/" + runners + "-second"
		if text := flat(all[policy]); !strings.Contains(text, "kubernetes.io/metadata.name: second") {
			t.Errorf("%s: the runners may not call the second scaler: %s", way, text)
		}
		for key := range all {
			if _, both := first[key]; both && strings.HasPrefix(key, "NetworkPolicy "+runners+"/") {
				t.Errorf("%s: %s would replace the first's", way, key)
			}
		}
	}
}

func TestThePolicyIsForTheScalerOfItsInstallation(t *testing.T) {
	for namespace, all := range map[string]objects{controlPlane: kustomized(t, "base"), "second": second(t, "oauth-consumer")} {
		key := " /" + name + "-" + namespace
		if namespace != controlPlane {
			// kustomize does not know that the kind has no namespace, which the API server ignores.
			key = " " + namespace + "/" + name + "-" + namespace
		}
		policy := as[admissionv1.ValidatingAdmissionPolicy](t, all, "ValidatingAdmissionPolicy"+key)
		binding := as[admissionv1.ValidatingAdmissionPolicyBinding](t, all, "ValidatingAdmissionPolicyBinding"+key)
		account := as[corev1.ServiceAccount](t, all, "ServiceAccount "+namespace+"/"+name)
		want := `request.userInfo.username == "system:serviceaccount:` + account.Namespace + ":" + account.Name + `"`
		if got := policy.Spec.MatchConditions[0].Expression; got != want {
			t.Errorf("it is for %s, want %s", got, want)
		}
		if binding.Spec.PolicyName != policy.Name {
			t.Errorf("the binding is of %q, want %q", binding.Spec.PolicyName, policy.Name)
		}
	}
}

// Older API servers have no ValidatingAdmissionPolicy, and would let the scaler patch all of a
// ScaledJob.
func TestTheChartIsForKubernetesWithThePolicy(t *testing.T) {
	loaded, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]bool{"v1.29.14": false, "v1.29.15-eks-1": false, "v1.30.0": true, "v1.30.1-gke.100": true, "v1.36.0": true} {
		if got := chartutil.IsCompatibleRange(loaded.Metadata.KubeVersion, version); got != want {
			t.Errorf("it can be installed on %s: %v", version, got)
		}
	}
}

func TestThePermissionToAnnotateCanBeLeftOut(t *testing.T) {
	values := valuesIn(t, "../chart/ci/base.yaml")
	if values == nil {
		values = object{}
	}
	values["restartPolling"] = false
	chart, _, err := charted(controlPlane, values)
	if err != nil {
		t.Fatal(err)
	}
	component := inOwnFolder(t, "resources: [../deploy/base]\ncomponents: [../deploy/components/read-only-scaledjobs]\n")
	for way, all := range map[string]objects{"kustomize": component, "chart": chart} {
		given := grants(t, all)
		if can(given, controlPlane, name, question{Verb: "patch", Group: "keda.sh", Resource: "scaledjobs", Namespace: runners}) {
			t.Errorf("%s: the scaler may still patch ScaledJobs", way)
		}
		if !can(given, controlPlane, name, question{Verb: "watch", Group: "keda.sh", Resource: "scaledjobs", Namespace: runners}) {
			t.Errorf("%s: the scaler may not read ScaledJobs", way)
		}
		for key := range all {
			if strings.HasPrefix(key, "Validating") {
				t.Errorf("%s: %s is not needed", way, key)
			}
		}
	}
}
