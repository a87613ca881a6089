package suite

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

// second is the namespace of a second installation.
const second = "second"

// installSecond installs the product again in the same cluster. uninstall removes it, and
// is called at the end of the test at the latest.
func installSecond(t *testing.T) (uninstall func()) {
	t.Helper()
	root, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	manifests, err := shared.Kube.Run(t.Context(), "", "kustomize", filepath.Join(root, "e2e", "installation", "second"))
	if err != nil {
		t.Fatal(err)
	}
	uninstall = func() {
		t.Helper()
		if _, err := shared.Kube.Run(context.WithoutCancel(t.Context()), manifests, "delete", "--ignore-not-found", "--timeout=120s", "-f", "-"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(uninstall)
	if _, err := shared.Kube.Run(t.Context(), manifests, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.Kube.Run(t.Context(), "", "-n", second, "rollout", "status", "deployment/"+installation.Scaler, "--timeout=120s"); err != nil {
		t.Fatal(err)
	}
	return uninstall
}

// groupOfSecond applies a group of the second installation, in the namespace of the others.
func groupOfSecond(t *testing.T, name string, metadata map[string]string) {
	t.Helper()
	all := map[string]string{"labels": name, "coolDown": "10s"}
	maps.Copy(all, metadata)
	manifest, err := installation.Example(installation.Edit{Name: name, Metadata: all})
	if err != nil {
		t.Fatal(err)
	}
	manifest = strings.ReplaceAll(manifest, installation.Scaler+"."+installation.ControlPlane+".", installation.Scaler+"."+second+".")
	if _, err := shared.Kube.Run(t.Context(), manifest, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.Delete(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
	})
}

// rights describes the cluster-wide objects of the first installation.
func rights(t *testing.T) string {
	t.Helper()
	text, err := shared.Kube.Run(t.Context(), "", "get", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding",
		installation.Scaler+"-"+installation.ControlPlane, "-o", `jsonpath={range .items[*]}{.kind} {.metadata.uid} {.metadata.generation} {.rules} {.subjects}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// publishedKeys returns the keys of the published ConfigMap in the runners' namespace.
func publishedKeys(t *testing.T) []string {
	t.Helper()
	published, err := shared.client.CoreV1().ConfigMaps(installation.Runners).Get(t.Context(), "bitbucket-runner-scaler-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(published.Data))
}

// sideBySide is how long two installations are busy beside each other, at least once.
func sideBySide() time.Duration {
	if os.Getenv(full) != "" {
		return 10 * time.Minute
	}
	return 0
}

func TestTwoInstallationsLeaveEachOtherAlone(t *testing.T) {
	t.Parallel()
	group(t, "first", map[string]string{"min": "1", "max": "3"})
	untilOnline(t, "first", 1, 0)
	before, published := rights(t), publishedKeys(t)
	uninstall := installSecond(t)
	groupOfSecond(t, "neighbour", map[string]string{"min": "1", "max": "3"})
	untilOnline(t, "neighbour", 1, 0)
	if got := publishedKeys(t); len(got) != len(published)+1 {
		t.Errorf("published: %q, want one more than %q", got, published)
	}
	// Both are busy at the same time, and grow.
	var steps []string
	for begun, again := time.Now(), true; again; again = time.Since(begun) < sideBySide() {
		steps = append(queue(t, "first", 4, "20s"), queue(t, "neighbour", 4, "20s")...)
		untilBusy(t, "first", 2)
		untilBusy(t, "neighbour", 2)
		untilPassed(t, steps)
	}
	// The second goes while the first is busy.
	steps = queue(t, "first", 4, "20s")
	untilBusy(t, "first", 1)
	if err := shared.Delete(t.Context(), "neighbour"); err != nil {
		t.Fatal(err)
	}
	until(t, "the second's runners to be gone", func() (bool, error) { return len(runners(t, "neighbour")) == 0, nil })
	until(t, "the second's authority to be withdrawn", func() (bool, error) { return slices.Equal(publishedKeys(t), published), nil })
	uninstall()
	untilPassed(t, steps)
	untilPassed(t, queue(t, "first", 3, "5s"))
	if after := rights(t); after != before {
		t.Errorf("the first's rights were\n%s, and are\n%s", before, after)
	}
	if failed := failedJobs(t, "first"); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
	events, err := shared.Kube.Run(t.Context(), "", "-n", installation.Runners, "get", "events", "-o", `jsonpath={range .items[*]}{.reason} {.involvedObject.name} {.message}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(events) {
		reason, about, _ := strings.Cut(line, " ")
		ours := strings.HasPrefix(about, "first") || strings.HasPrefix(about, "neighbour")
		if ours && slices.Contains([]string{"FailedMount", "Unwanted", "Forgotten", "Lost", "Orphan", "Stuck"}, reason) {
			t.Errorf("an Event: %s", line)
		}
	}
}
