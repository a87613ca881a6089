package acceptance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"bitbucket-runner-scaler/e2e/installation"
)

var (
	scaledJobs = schema.GroupVersionResource{Group: "keda.sh", Version: "v1alpha1", Resource: "scaledjobs"}
	bindings   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"}
)

// as returns a client that acts as an account.
func as(t *testing.T, namespace, account string) dynamic.Interface {
	t.Helper()
	config := shared.plane.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// inNamespace renders an overlay as a user does who installs it in another namespace.
func inNamespace(t *testing.T, overlay, namespace string) string {
	t.Helper()
	// kustomize takes only relative paths.
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Rel(base, filepath.Join(shared.root, "deploy", overlay))
	if err != nil {
		t.Fatal(err)
	}
	text := "namespace: " + namespace + "\nresources: [" + path + "]\n"
	if err := os.WriteFile(filepath.Join(base, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return kubectl(t, "", "kustomize", base)
}

// installed applies manifests, and deletes them at the end.
func installed(t *testing.T, manifests string) {
	t.Helper()
	kubectl(t, manifests, "apply", "--server-side", "-f", "-")
	t.Cleanup(func() { kubectl(t, manifests, "delete", "--ignore-not-found", "-f", "-") })
}

func TestTheScalerMayChangeOneAnnotationOfAScaledJobAndNothingElse(t *testing.T) {
	installed(t, kustomized(t, "base")+"\n---\n"+kustomized(t, "examples"))
	scaler := as(t, installation.ControlPlane, installation.Scaler).Resource(scaledJobs).Namespace(installation.Runners)
	admin := shared.dynamic.Resource(scaledJobs).Namespace(installation.Runners)
	patch := func(client dynamic.ResourceInterface, patch string) error {
		_, err := client.Patch(t.Context(), "builds", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	const paused = `{"metadata":{"annotations":{"autoscaling.keda.sh/paused":`
	// The API server takes a moment to read a new policy.
	until(t, "the policy to be in force", func() (bool, string) {
		err := patch(scaler, `{"metadata":{"labels":{"any":"value"}}}`)
		if err == nil {
			err = patch(admin, `{"metadata":{"labels":{"any":null}}}`)
			if err != nil {
				t.Fatal(err)
			}
			return false, "it is not"
		}
		return apierrors.IsInvalid(err) || apierrors.IsForbidden(err), err.Error()
	})
	for _, value := range []string{`"false"`, `"0"`, `"false"`} {
		if err := patch(scaler, paused+value+`}}}`); err != nil {
			t.Errorf("the annotation that makes KEDA read it again, %s: %v", value, err)
		}
	}
	for name, change := range map[string]string{
		"the pod template":     `{"spec":{"jobTargetRef":{"template":{"spec":{"hostNetwork":true}}}}}`,
		"an image":             `{"spec":{"jobTargetRef":{"template":{"spec":{"containers":[{"name":"runner","image":"mine"}]}}}}}`,
		"max":                  `{"spec":{"maxReplicaCount":99}}`,
		"the trigger":          `{"spec":{"triggers":[{"type":"cron","metadata":{"timezone":"UTC","start":"0 * * * *","end":"1 * * * *","desiredReplicas":"9"}}]}}`,
		"both at once":         `{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"0"}},"spec":{"maxReplicaCount":99}}`,
		"a label":              `{"metadata":{"labels":{"any":"value"}}}`,
		"another annotation":   `{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"0","any":"value"}}}`,
		"a finalizer":          `{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"0"},"finalizers":["any/finalizer"]}}`,
		"an owner":             `{"metadata":{"annotations":{"autoscaling.keda.sh/paused":"0"},"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}}`,
		"a pause":              paused + `"true"}}}`,
		"a pause by any value": paused + `"x"}}}`,
		"no annotation":        paused + `null}}}`,
	} {
		if err := patch(scaler, change); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
			t.Errorf("the scaler may change %s: %v", name, err)
		}
	}
	if err := patch(admin, paused+`"true"}}}`); err != nil {
		t.Fatal(err)
	}
	if err := patch(scaler, paused+`"false"}}}`); err == nil {
		t.Error("the scaler may resume what someone has paused")
	}
	if err := patch(admin, `{"spec":{"maxReplicaCount":9}}`); err != nil {
		t.Errorf("the policy is in the way of others: %v", err)
	}
}

func TestASecondInstallationTakesNothingFromTheFirst(t *testing.T) {
	installed(t, kustomized(t, "overlays/oauth-consumer"))
	works := question{Verb: "delete", Group: "batch", Resource: "jobs", Namespace: installation.Runners}
	t.Run("second", func(t *testing.T) {
		installed(t, inNamespace(t, "overlays/oauth-consumer", "second"))
		for _, namespace := range []string{installation.ControlPlane, "second"} {
			if !may(t, namespace, installation.Scaler, works) {
				t.Errorf("the scaler in %s has lost its rights", namespace)
			}
		}
	})
	if !may(t, installation.ControlPlane, installation.Scaler, works) {
		t.Error("the first lost its rights when the second was uninstalled")
	}
	if may(t, "second", installation.Scaler, works) {
		t.Error("the second keeps rights after it was uninstalled")
	}
	left, err := shared.dynamic.Resource(bindings).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=" + installation.Scaler})
	if err != nil || len(left.Items) != 1 {
		t.Errorf("%d bindings are left, want that of the first: %v", len(left.Items), err)
	}
}
