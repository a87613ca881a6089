package controlplane_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/testbed"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// events records events in order.
type events struct {
	mu  sync.Mutex
	all []string
}

func (e *events) add(event string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// order reports whether these events first happened in this order.
func (e *events) order(want ...string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := -1
	for _, event := range want {
		next := slices.Index(e.all, event)
		if next <= at {
			return false
		}
		at = next
	}
	return true
}

// lock is one replica's connection to the Lease. It can be interrupted.
type lock struct {
	kube.Lock
	events *events

	mu          sync.Mutex
	interrupted bool
	// onRelease is called before the Lease is released.
	onRelease func()
}

func (l *lock) interrupt(interrupted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupted = interrupted
}

func (l *lock) reach() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.interrupted {
		return errors.New("the API server is unreachable")
	}
	return nil
}

func (l *lock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if err := l.reach(); err != nil {
		return nil, nil, err
	}
	return l.Lock.Get(ctx)
}

func (l *lock) Watch(ctx context.Context) (<-chan resourcelock.LeaderElectionRecord, error) {
	if err := l.reach(); err != nil {
		return nil, err
	}
	return l.Lock.Watch(ctx)
}

func (l *lock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return errors.Join(l.reach(), l.Lock.Create(ctx, record))
}

func (l *lock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if err := l.reach(); err != nil {
		return err
	}
	if record.HolderIdentity == "" {
		l.events.add("released")
		l.onRelease()
	}
	return l.Lock.Update(ctx, record)
}

// recordedService is a LeaderService that records its withdrawal.
type recordedService struct {
	*kube.LeaderService
	events *events
}

func (s recordedService) Withdraw(ctx context.Context) error {
	s.events.add("withdrawn")
	return s.LeaderService.Withdraw(ctx)
}

// settleTime is how long after the end of an unreleased Lease the next leader begins to write.
const settleTime = 3 * time.Second

// replica is a control plane that takes part in an election.
type replica struct {
	lock     *lock
	election *kube.Election
	config   controlplane.Config
}

func newReplica(t *testing.T, client kubernetes.Interface, name string) *replica {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name}}
	if _, err := client.CoreV1().Pods("system").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	seen := &events{}
	r := &replica{lock: &lock{Lock: kube.LeaseLock(client, "system", "scaler", name), events: seen, onRelease: func() {}}, config: quick()}
	r.election = kube.NewElection(r.lock, kube.ElectionConfig{
		LeaseDuration: 3 * time.Second, RenewInterval: 500 * time.Millisecond, RenewDeadline: 2 * time.Second, RetryPeriod: 200 * time.Millisecond,
		WriteTimeout: settleTime - r.config.WriteSettle, WriteSettle: r.config.WriteSettle, Logger: zaptest.NewLogger(t),
	})
	r.config.Election, r.config.LeaderService = r.election, recordedService{LeaderService: kube.NewLeaderService(client, "system", name), events: seen}
	return r
}

// pair is a control plane that leads, and the test bed's, which is the standby.
type pair struct {
	*plane
	leader, standby *replica
	client          kubernetes.Interface
	// keda and runners are the leader's. Those of the plane are the standby's.
	keda    pb.ExternalScalerClient
	runners runnerv1.RunnerServiceClient
	// stop stops the leader in order and returns Run's error.
	stop func() error
}

func startPair(t *testing.T) *pair {
	t.Helper()
	client := fake.NewClientset()
	b := &pair{client: client, leader: newReplica(t, client, "leader"), standby: newReplica(t, client, "standby")}
	b.standby.lock.interrupt(true) // until the other leads
	// So that the standby requests the list itself that allows its first write.
	b.standby.config.PollInterval = time.Hour
	b.plane = start(t, b.standby.config, map[string]string{"workspace": "acme", "min": "1"})
	address := b.serve(t)
	conn := dial(t, address)
	b.keda, b.runners = pb.NewExternalScalerClient(conn), runnerv1.NewRunnerServiceClient(conn)
	b.until("the first to lead", func() bool { _, err := b.leaderMetric(); return err == nil })
	b.standby.lock.interrupt(false)
	return b
}

// serve runs the leader.
func (b *pair) serve(t *testing.T) (address string) {
	t.Helper()
	config := b.leader.config
	config.Owner, config.Cluster, config.HourlyBudget = b.Owner(), b.Cluster, testbed.HourlyBudget(config.PollInterval)
	config.Bitbucket = bitbucket.Config{BaseURL: b.BitbucketURL, OAuthURL: b.BitbucketURL + "/site/oauth2/access_token"}
	config.Lookup = func(name string) (string, bool) {
		value, ok := map[string]string{"BITBUCKET_OAUTH_CLIENT_ID": "emulator-client", "BITBUCKET_OAUTH_CLIENT_SECRET": "emulator-secret"}[name]
		return value, ok
	}
	config.Logger = zaptest.NewLogger(t).Named("leader")
	plane, err := controlplane.New(config)
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var outcome error
	go func() {
		defer close(ended)
		outcome = plane.Run(ctx, listeners[0], listeners[1])
	}()
	b.stop = func() error {
		cancel()
		<-ended
		return outcome
	}
	t.Cleanup(func() { _ = b.stop() }) // the test itself checks the error
	return listeners[0].Addr().String()
}

func (b *pair) leaderMetric() (int64, error) {
	answer, err := b.keda.GetMetrics(b.t.Context(), &pb.GetMetricsRequest{ScaledObjectRef: ref(b.group)})
	if err != nil {
		return 0, err
	}
	return answer.GetMetricValues()[0].GetMetricValue(), nil
}

// ledTo returns the names of the pods that the Service selects, joined by spaces.
func (b *pair) ledTo() string {
	pods, err := b.client.CoreV1().Pods("system").List(b.t.Context(), metav1.ListOptions{LabelSelector: kube.RoleLabel + "=" + kube.RoleLeader})
	if err != nil {
		b.t.Fatal(err)
	}
	names := make([]string, 0, len(pods.Items))
	for i := range pods.Items {
		names = append(names, pods.Items[i].Name)
	}
	return strings.Join(names, " ")
}

// posts counts the registrations that reached Bitbucket.
func (b *pair) posts() int {
	n := 0
	for route, calls := range b.state().Counters.Calls {
		if strings.HasPrefix(route, "POST ") && strings.Contains(route, "runners") {
			n += calls
		}
	}
	return n
}
