package acceptance

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/e2e/installation"
)

// definitions stand for the CRDs of cert-manager, of the Gateway API and of the Prometheus Operator,
// whose own schemas they do not have: the tests of deploy/ compare what is rendered with the fields that are documented.
const definitions = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: certificates.cert-manager.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: cert-manager.io
  names: {kind: Certificate, listKind: CertificateList, plural: certificates, singular: certificate}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: httproutes.gateway.networking.k8s.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: gateway.networking.k8s.io
  names: {kind: HTTPRoute, listKind: HTTPRouteList, plural: httproutes, singular: httproute}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: podmonitors.monitoring.coreos.com, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: monitoring.coreos.com
  names: {kind: PodMonitor, listKind: PodMonitorList, plural: podmonitors, singular: podmonitor}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: monitoring.coreos.com
  names: {kind: PrometheusRule, listKind: PrometheusRuleList, plural: prometheusrules, singular: prometheusrule}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// controlPlane and runners are the namespaces that a user of the chart creates first, as
// deploy/README.md says. If the values have groups, the chart has the runners'.
const controlPlane = `
apiVersion: v1
kind: Namespace
metadata:
  name: ` + installation.ControlPlane + `
  labels: {pod-security.kubernetes.io/enforce: restricted}
`
const runners = `
apiVersion: v1
kind: Namespace
metadata:
  name: ` + installation.Runners + `
  labels: {pod-security.kubernetes.io/enforce: privileged}
`

// chart renders a release of the chart as `helm install` does, with the values of a file. What `helm test`
// applies is not in it.
func chart(t *testing.T, name, values string) string {
	t.Helper()
	text, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict(text, &given); err != nil {
		t.Fatalf("%s: %v", values, err)
	}
	loaded, err := loader.Load(filepath.Join(shared.root, "deploy", "chart"))
	if err != nil {
		t.Fatal(err)
	}
	release := chartutil.ReleaseOptions{Name: name, Namespace: installation.ControlPlane, IsInstall: true, Revision: 1}
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}
	all, err := chartutil.ToRenderValues(loaded, given, release, &capabilities)
	if err != nil {
		t.Fatalf("%s: %v", values, err)
	}
	files, err := engine.Engine{Strict: true}.Render(loaded, all)
	if err != nil {
		t.Fatalf("%s: %v", values, err)
	}
	manifests := []string{controlPlane}
	if given["groups"] == nil {
		manifests = append(manifests, runners)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(path, "NOTES.txt") && !strings.Contains(path, "/templates/tests/") && strings.TrimSpace(files[path]) != "" {
			manifests = append(manifests, files[path])
		}
	}
	return strings.Join(manifests, "\n---\n")
}

// installations returns the manifests of each way to install the control plane, and of the
// example of a runner group.
func installations(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	folders, err := filepath.Glob(filepath.Join(shared.root, "deploy", "overlays", "*"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("overlays: %q, %v", folders, err)
	}
	for _, dir := range append([]string{"base", "examples"}, folders...) {
		if name := filepath.Base(dir); name != dir {
			dir = filepath.Join("overlays", name)
		}
		all[dir] = kustomized(t, dir)
	}
	values, err := filepath.Glob(filepath.Join(shared.root, "deploy", "chart", "ci", "*.yaml"))
	if err != nil || len(values) != len(folders)+2 {
		t.Fatalf("values of the chart: %q, %v, want one for each overlay, the base and groups", values, err)
	}
	for _, file := range values {
		all["chart, "+strings.TrimSuffix(filepath.Base(file), ".yaml")] = chart(t, installation.Scaler, file)
	}
	second := filepath.Join(t.TempDir(), "second.yaml") // without the namespace, which the first has
	if err := os.WriteFile(second, []byte("image: {repository: "+installation.Scaler+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all["chart, two releases in one namespace"] = all["chart, base"] + "\n---\n" + strings.TrimPrefix(chart(t, "second", second), controlPlane+"\n---\n"+runners+"\n---\n")
	return all
}

// present returns all objects of the kinds that we install, as "kind namespace/name".
func present(t *testing.T) []string {
	t.Helper()
	kinds := []schema.GroupVersionResource{
		{Version: "v1", Resource: "namespaces"}, {Version: "v1", Resource: "serviceaccounts"}, {Version: "v1", Resource: "services"},
		{Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "configmaps"}, {Version: "v1", Resource: "pods"},
		{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "apps", Version: "v1", Resource: "replicasets"}, {Group: "batch", Version: "v1", Resource: "jobs"},
		{Group: "policy", Version: "v1", Resource: "poddisruptionbudgets"}, {Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies"},
		{Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}, {Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}, {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicybindings"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
		{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, {Group: "cert-manager.io", Version: "v1", Resource: "certificates"},
		{Group: "monitoring.coreos.com", Version: "v1", Resource: "podmonitors"}, {Group: "monitoring.coreos.com", Version: "v1", Resource: "prometheusrules"},
		{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledjobs"}, {Group: "keda.sh", Version: "v1alpha1", Resource: "triggerauthentications"},
	}
	var found []string
	for _, kind := range kinds {
		list, err := shared.dynamic.Resource(kind).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
		if err != nil {
			t.Fatalf("%s: %v", kind.Resource, err)
		}
		for _, item := range list.Items {
			found = append(found, kind.Resource+" "+item.GetNamespace()+"/"+item.GetName())
		}
	}
	slices.Sort(found)
	return found
}

// admitted checks that a pod passes admission in a namespace that enforces a level of Pod
// Security.
func admitted(t *testing.T, namespace, level string, pod *corev1.Pod) {
	t.Helper()
	found, err := shared.client.CoreV1().Namespaces().Get(t.Context(), namespace, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if enforced := found.Labels["pod-security.kubernetes.io/enforce"]; enforced != level {
		t.Errorf("namespace %s enforces %q, want %s", namespace, enforced, level)
	}
	_, err = shared.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Errorf("pod refused: %v", err)
	}
}

func TestEveryInstallationIsAcceptedRepeatedlyAndCanBeRemoved(t *testing.T) {
	kubectl(t, definitions, "apply", "--server-side", "-f", "-")
	kubectl(t, "", "wait", "--for=condition=Established", "crd/certificates.cert-manager.io", "crd/httproutes.gateway.networking.k8s.io",
		"crd/podmonitors.monitoring.coreos.com", "crd/prometheusrules.monitoring.coreos.com", "--timeout=60s")
	all := installations(t)
	before := present(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			manifests := all[name]
			kubectl(t, manifests, "apply", "--server-side", "--validate=strict", "-f", "-")
			t.Cleanup(func() {
				kubectl(t, manifests, "delete", "--ignore-not-found", "--wait=false", "-f", "-")
				until(t, "nothing to be left", func() (bool, string) {
					diff := cmp.Diff(before, present(t))
					return diff == "", diff
				})
			})
			kubectl(t, manifests, "diff", "--server-side", "-f", "-") // it fails if there is a difference
			if name == "examples" {
				return
			}
			deployment, err := shared.client.AppsV1().Deployments(installation.ControlPlane).Get(t.Context(), installation.Scaler, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
			pod.Name = "any"
			admitted(t, installation.ControlPlane, "restricted", pod)
		})
	}
}
