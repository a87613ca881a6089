package suite

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

func TestStepContinuesAfterItsSidecarDies(t *testing.T) {
	t.Parallel()
	group(t, "orphaned", still)
	untilOnline(t, "orphaned", 1, 0)
	steps := queue(t, "orphaned", 1, "20s")
	pod := working(t, "orphaned")
	first := processOf(t, string(pod.UID), "/sidecar", "run")
	first.isSmall(t)
	first.kill(t)
	until(t, "the sidecar to run again", func() (bool, error) {
		second := processOf(t, string(pod.UID), "/sidecar", "run")
		return second.pid != first.pid, nil
	})
	untilPassed(t, steps)
	// The new sidecar controls the runner: the runner takes another step and can be
	// stopped.
	untilPassed(t, queue(t, "orphaned", 1, "1s"))
	begun := runners(t, "orphaned")
	if len(begun) != 1 || begun[0].StepsTaken != 2 {
		t.Errorf("runners %+v, want the one that took both steps", begun)
	}
	evict(t, pod)
	untilEnded(t, pod)
	if failed := failedJobs(t, "orphaned"); len(failed) > 0 {
		t.Errorf("Jobs %v failed", failed)
	}
}

// The limits of one sidecar, in bytes. There is one sidecar per runner.
const mostMemory, mostBinary = 20 << 20, 15_000_000

// isSmall checks a sidecar's limits.
func (p process) isSmall(t *testing.T) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/", p.pid)
	status, err := os.ReadFile(folder + "status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ := strings.Cut(rest, "kB")
	resident, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Stat(folder + "exe")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the sidecar has %.1f MiB resident, its binary %.2f MB", float64(resident)/1024, float64(binary.Size())/1e6)
	if resident<<10 > mostMemory || binary.Size() > mostBinary {
		t.Errorf("want at most %d bytes resident and %d of binary", mostMemory, mostBinary)
	}
}

// leeway is longer than the difference of clocks that the API server accepts
// (gopkg.in/go-jose/go-jose.v2/jwt.DefaultLeeway).
const leeway = 90 * time.Second

// The kubelet does not renew the sidecar's token while the pod is being deleted. During a
// long step the token expires, and the control plane refuses the sidecar.
func TestLongDrainContinuesAfterTheTokenExpires(t *testing.T) {
	edited(t, installation.Edit{Name: "expired", Metadata: still, GracePeriod: 30 * time.Minute, TokenLife: 10 * time.Minute})
	untilOnline(t, "expired", 1, 0)
	steps := queue(t, "expired", 1, "14m")
	pod := working(t, "expired")
	expiry := tokenExpiry(t, pod)
	if err := shared.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	untilWithin(t, 15*time.Minute, "the token to have expired", func() (bool, error) { return time.Now().After(expiry.Add(leeway)), nil })
	if now := tokenExpiry(t, pod); !now.Equal(expiry) {
		t.Fatalf("the token was renewed until %s", now)
	}
	for _, args := range [][]string{{"restart"}, {"status", "--timeout=120s"}} {
		if _, err := shared.Kube.Run(t.Context(), "", append([]string{"-n", installation.ControlPlane, "rollout", args[0], "deployment/" + installation.Scaler}, args[1:]...)...); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the sidecar to be refused", func() (bool, error) {
		log, err := shared.Kube.Run(context.WithoutCancel(t.Context()), "", "-n", pod.Namespace, "logs", pod.Name, "-c", "sidecar", "--tail=20")
		return strings.Contains(log, "Unauthenticated"), err
	})
	untilWithin(t, 10*time.Minute, "the step to end", func() (bool, error) { return !stepOf(t, steps[0]).CompletedOn.IsZero(), nil })
	untilPassed(t, steps)
	untilWithin(t, 10*time.Minute, "the pod and its runner to be gone", func() (bool, error) {
		left, err := shared.client.CoreV1().Pods(pod.Namespace).List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + pod.Name})
		return err == nil && len(left.Items) == 0 && len(runners(t, "expired")) == 1, err
	})
}

// tokenExpiry reads from the node's files when the token of a pod's sidecar expires.
func tokenExpiry(t *testing.T, pod corev1.Pod) time.Time {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(shared.node, "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~projected", "*", "token"))
	if err != nil || len(found) != 1 {
		t.Fatalf("tokens %v, %v; want one", found, err)
	}
	token, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(token), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Expiry int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return time.Unix(claims.Expiry, 0)
}
