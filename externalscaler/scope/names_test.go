package scope

import (
	"strings"
	"testing"
)

func TestRunnerNames(t *testing.T) {
	long := strings.Repeat("a", 63)
	if got, want := RunnerName(long, "uid"), long[:41]+"-"+shortHash("uid"); got != want || len(got) > 50 {
		t.Errorf("got %q, want %q within 50 characters", got, want)
	}
	if RunnerName("pod", "1") == RunnerName("pod", "2") {
		t.Error("two pods of one name, made one after the other, share a runner's name")
	}
}

func TestOwnerLabels(t *testing.T) {
	if got := OwnerLabel("k8s", "", "", "bitbucket-runner-scaler"); got != "keda.k8s" {
		t.Errorf("without Kubernetes: got %q", got)
	}
	if OwnerLabel("k8s", "uid1", "a", "") != OwnerLabel("k8s", "uid1", "a", "bitbucket-runner-scaler") {
		t.Error("the usual name of the Service is not the usual installation")
	}
	seen := map[string]string{}
	for name, label := range map[string]string{
		"one": OwnerLabel("k8s", "uid1", "a", "bitbucket-runner-scaler"), "another cluster": OwnerLabel("k8s", "uid2", "a", "bitbucket-runner-scaler"), "another namespace": OwnerLabel("k8s", "uid1", "b", "bitbucket-runner-scaler"),
		"another beside it": OwnerLabel("k8s", "uid1", "a", "second"),
	} {
		if other, ok := seen[label]; ok {
			t.Errorf("%s and %s share %q", name, other, label)
		}
		seen[label] = name
		if len(label) > 50 || !strings.HasPrefix(label, "keda.k8s.") {
			t.Errorf("%s: got %q", name, label)
		}
	}
}
