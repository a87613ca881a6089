package suite

import (
	"context"
	"strings"
	"testing"

	"bitbucket-runner-scaler/e2e/installation"
)

// A credentials set names the namespaces that may use it. Anyone who may create ScaledJobs
// in another namespace gets no runner with it.
func TestCredentialsServeOnlyTheirNamespaces(t *testing.T) {
	t.Parallel()
	const namespace = "elsewhere"
	manifest, err := installation.Example(installation.Edit{Name: "foreign", Metadata: map[string]string{"labels": "foreign", "min": "1", "max": "2"}})
	if err != nil {
		t.Fatal(err)
	}
	manifest = strings.ReplaceAll(manifest, "namespace: "+installation.Runners+"\n", "namespace: "+namespace+"\n")
	manifest = strings.ReplaceAll(manifest, "name: "+installation.Runners+"\n", "name: "+namespace+"\n")
	if _, err := shared.Kube.Run(t.Context(), manifest, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := shared.Kube.Run(context.WithoutCancel(t.Context()), "", "delete", "namespace", namespace, "--timeout=120s"); err != nil {
			t.Error(err)
		}
	})
	until(t, "an Event with the refusal on the ScaledJob", func() (bool, error) {
		text, err := shared.Kube.Run(t.Context(), "", "-n", namespace, "get", "events", "--field-selector", "involvedObject.name=foreign,reason=KEDAScalerFailed", "-o", "jsonpath={.items[*].message}")
		return strings.Contains(text, "PermissionDenied"), err
	})
	if jobs, err := shared.Kube.Run(t.Context(), "", "-n", namespace, "get", "jobs", "-o", "name"); err != nil || jobs != "" {
		t.Errorf("Jobs %q, %v", jobs, err)
	}
	if got := runners(t, "foreign"); len(got) > 0 {
		t.Errorf("runners %+v", got)
	}
}
