package round

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/network"
	"bitbucket-runner-scaler/e2e/process"
	"bitbucket-runner-scaler/externalscaler/kube"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

// replicasAtOnce is how many scalers a round has.
const replicasAtOnce = 2

// replica is one pod of the scaler's Deployment: whenever its process ends it is
// started again.
type replica struct {
	round     *Round
	pod       string
	address   string // gRPC
	http      string // /status and /metrics
	hooks     string // deliveries of webhooks
	api       *network.API
	arguments []string
	env       []string
	stop      chan struct{}
	kept      sync.WaitGroup

	mu      sync.Mutex
	process *process.Process
	starts  int
}

// restartAfter is how long a kubelet takes to start a container again, at first.
const restartAfter = 2 * time.Second

// startReplicas starts the scalers, and the way to the one that leads.
func (r *Round) startReplicas(ctx context.Context) (err error) {
	if r.service, err = network.NewGate(ctx, r.leaderAddress); err != nil {
		return err
	}
	if r.hooks, err = network.NewGate(ctx, r.leaderHooks); err != nil {
		return err
	}
	token, err := r.scalerToken(ctx)
	if err != nil {
		return fmt.Errorf("scaler's token: %w", err)
	}
	for i := range replicasAtOnce {
		one := &replica{round: r, pod: fmt.Sprintf("scaler-%d", i+1), stop: make(chan struct{})}
		if err := one.prepare(ctx, token); err != nil {
			return fmt.Errorf("replica %s: %w", one.pod, err)
		}
		r.replicas = append(r.replicas, one)
		if err := one.start(); err != nil {
			return err
		}
		one.kept.Go(one.keep)
	}
	return nil
}

// scalerToken is one of the scaler's ServiceAccount.
func (r *Round) scalerToken(ctx context.Context) (string, error) {
	answer, err := r.suite.Client.CoreV1().ServiceAccounts(r.namespace("cp")).CreateToken(ctx, scalerName,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 3600)}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

// prepare makes the replica's pod, which no kubelet runs, and its way to the API.
func (p *replica) prepare(ctx context.Context, token string) (err error) {
	r := p.round
	if _, err := r.suite.Client.CoreV1().Pods(r.namespace("cp")).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.pod, Labels: map[string]string{"app.kubernetes.io/name": scalerName}},
		Spec: corev1.PodSpec{
			ServiceAccountName: scalerName, AutomountServiceAccountToken: ptr.To(false),
			Containers: []corev1.Container{{Name: "scaler", Image: "scaler"}},
			// Nobody is to run it: its process is ours.
			SchedulerName: noScheduler,
		},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if p.api, err = network.NewAPI(ctx, r.suite.ControlPlane.Server(), r.suite.ControlPlane.CAFile(), token, r.clock); err != nil {
		return err
	}
	kubeconfig := filepath.Join(r.dir, p.pod+".kubeconfig")
	config := clientcmdapi.NewConfig()
	config.Clusters["chaos"] = &clientcmdapi.Cluster{Server: p.api.URL()}
	config.Contexts["chaos"] = &clientcmdapi.Context{Cluster: "chaos"}
	config.CurrentContext = "chaos"
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		return err
	}
	grpcPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	httpPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	hookPort, err := freePort(ctx)
	if err != nil {
		return err
	}
	p.address, p.http, p.hooks = "127.0.0.1:"+grpcPort, "127.0.0.1:"+httpPort, "127.0.0.1:"+hookPort
	times := r.plan.Times
	p.arguments = []string{
		"--grpc-listen", p.address, "--http-listen", p.http, "--webhook-listen", p.hooks,
		"--bitbucket-url", r.bitbucketURL(), "--bitbucket-oauth-url", r.bitbucketURL() + "/site/oauth2/access_token",
		"--cluster", clusterName, "--namespace", r.namespace("cp"), "--pod-name", p.pod, "--leader-elect",
		"--scaler-address", r.service.Address(), "--tls", "off", "--hourly-budget", strconv.Itoa(testbed.HourlyBudget(times.PollInterval)),
		"--poll-interval", times.PollInterval.String(), "--write-settle", times.WriteSettle.String(), "--orphan-grace", times.OrphanGrace.String(),
	}
	p.env = []string{
		"PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + kubeconfig, r.scalerClock.Environment(),
		"BITBUCKET_OAUTH_CLIENT_ID=" + emulator.OAuthClientID, "BITBUCKET_OAUTH_CLIENT_SECRET=" + emulator.OAuthClientSecret,
		"BITBUCKET_WEBHOOK_SECRET=" + hookSecret,
	}
	return nil
}

func (p *replica) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	started, err := process.Start(p.round.logFile(p.pod), p.env, p.round.program("scaler"), p.arguments...)
	if err != nil {
		return err
	}
	p.process = started
	p.starts++
	return nil
}

// keep starts the scaler again whenever it ends.
func (p *replica) keep() {
	for {
		p.mu.Lock()
		current := p.process
		p.mu.Unlock()
		select {
		case <-p.stop:
			return
		case <-current.Done():
		}
		p.round.note("%s ended: %v", p.pod, current.Err())
		timer := time.NewTimer(p.round.clock.Real(restartAfter))
		select {
		case <-p.stop:
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := p.start(); err != nil {
			p.round.note("%s not started again: %v", p.pod, err)
		}
	}
}

// signal sends a signal to the process.
func (p *replica) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.process.Signal(s)
}

// close ends the replica.
func (p *replica) close() {
	close(p.stop)
	p.kept.Wait()
	if p.process != nil {
		p.process.Kill()
	}
	if p.api != nil {
		_ = p.api.Close() // nobody calls any more
	}
}

// leader is the replica whose pod bears the leader's label.
func (r *Round) leader(ctx context.Context) (*replica, bool) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pods, err := r.suite.Client.CoreV1().Pods(r.namespace("cp")).List(ctx, metav1.ListOptions{LabelSelector: kube.RoleLabel + "=" + kube.RoleLeader})
	if err != nil || len(pods.Items) == 0 {
		return nil, false
	}
	for _, one := range r.replicas {
		if one.pod == pods.Items[0].Name {
			return one, true
		}
	}
	return nil, false
}

// leaderAddress is where the Service leads.
func (r *Round) leaderAddress() (string, bool) {
	one, ok := r.leader(context.Background())
	if !ok {
		return "", false
	}
	return one.address, true
}

// leaderHooks is where the leader takes deliveries of webhooks.
func (r *Round) leaderHooks() (string, bool) {
	one, ok := r.leader(context.Background())
	if !ok {
		return "", false
	}
	return one.hooks, true
}
