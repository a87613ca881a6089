package acceptance

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"bitbucket-runner-scaler/e2e/installation"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/leader"
)

// counter counts the calls of a client.
type counter struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *counter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		what := request.Method + " " + request.URL.Path
		if request.URL.Query().Get("watch") != "" {
			what = "WATCH " + request.URL.Path
		}
		c.mu.Lock()
		c.calls[what]++
		c.mu.Unlock()
		return next.RoundTrip(request)
	})
}

// take returns the calls since the last take.
func (c *counter) take() (calls map[string]int, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls, c.calls = c.calls, map[string]int{}
	for _, n := range calls {
		total += n
	}
	return calls, total
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// The scaler's account, with its rights, and two replicas, of which the leader stops in order.
func TestReplicasAtRestMakeLessThanOneCallPerSecond(t *testing.T) {
	installed(t, kustomized(t, "base"))
	calls := &counter{calls: map[string]int{}}
	config := shared.plane.RESTConfig()
	config.Wrap(calls.wrap)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + installation.ControlPlane + ":" + installation.Scaler,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + installation.ControlPlane, "system:authenticated"},
	}
	led := make(chan string, 2)
	replica := func(name string) (stop func()) {
		client, err := kube.ElectionClient(config)
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: installation.ControlPlane}, Spec: restricted()}
		if _, err := shared.client.CoreV1().Pods(installation.ControlPlane).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		election := kube.NewElection(kube.LeaseLock(client, installation.ControlPlane, installation.Scaler, name), kube.ElectionConfig{})
		service := kube.NewLeaderService(client, installation.ControlPlane, name)
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := election.Run(ctx, func(ctx context.Context) error {
				led <- name
				leader.KeepPointed(ctx, service, election, clock.RealClock{}, zap.NewNop())
				return nil
			}); err != nil {
				t.Error(err)
			}
		}()
		stop = sync.OnceFunc(func() { cancel(); <-ended })
		t.Cleanup(stop)
		return stop
	}
	stop := replica("first")
	if first := <-led; first != "first" {
		t.Fatalf("%s leads", first)
	}
	replica("second")
	until(t, "the standby to watch", func() (bool, string) {
		calls.mu.Lock()
		defer calls.mu.Unlock()
		return calls.calls["WATCH /apis/coordination.k8s.io/v1/namespaces/"+installation.ControlPlane+"/leases"] == 1, "it does not"
	})
	calls.take()
	const measured = 20 * time.Second
	<-time.After(measured)
	found, total := calls.take()
	t.Logf("%.2f calls per second: %v", float64(total)/measured.Seconds(), found)
	if total > int(measured.Seconds()) {
		t.Errorf("%d calls in %s: %v", total, measured, found)
	}
	begun := time.Now()
	stop()
	<-led
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("the standby led %s after the leader was stopped", took)
	}
}

// restricted returns a pod that the control plane's namespace admits.
func restricted() corev1.PodSpec {
	yes, no := true, false
	return corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "any", Image: "any", SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}}},
	}
}
