package round

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/e2e/chaos/plan"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// crashLoop adds a group whose runners end at once, for the time of the fault.
func (r *Round) crashLoop(ctx context.Context, number int, f plan.Fault) bool {
	beside := r.plan.Groups[f.Pick%len(r.plan.Groups)]
	g := plan.Group{
		Name: fmt.Sprintf("crashing%d", number), Namespace: beside.Namespace, Repository: beside.Repository,
		Min: 3, Max: 5, CoolDown: beside.CoolDown,
	}
	r.note("%s: %s beside %s", f, g.Name, beside.Name)
	object, err := r.scaledJob(g)
	if err == nil {
		err = crashing(object)
	}
	if err == nil {
		_, err = r.suite.Dynamic.Resource(scaledJobs).Namespace(object.GetNamespace()).Create(ctx, object, metav1.CreateOptions{})
	}
	if err != nil {
		r.violate("group %s was not applied: %v", g.Name, err)
		return false
	}
	r.mu.Lock()
	r.crashed = append(r.crashed, g)
	r.mu.Unlock()
	r.pause(ctx, f.For)
	err = r.suite.Dynamic.Resource(scaledJobs).Namespace(object.GetNamespace()).Delete(context.WithoutCancel(ctx), g.Name, metav1.DeleteOptions{})
	if err != nil {
		r.violate("group %s was not deleted: %v", g.Name, err)
	}
	return true
}

// crashing gives the runner a flag that it does not know, so that it ends at once.
func crashing(scaledJob *unstructured.Unstructured) error {
	path := []string{"spec", "jobTargetRef", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(scaledJob.Object, path...)
	if err != nil {
		return err
	}
	for _, c := range containers {
		container, _ := c.(map[string]any)
		command, _ := container["command"].([]any)
		container["command"] = append(command, "--no-such-flag")
	}
	return unstructured.SetNestedSlice(scaledJob.Object, containers, path...)
}

// dial connects to the scaler as anybody in the cluster can.
func (r *Round) dial() (runnerv1.RunnerServiceClient, func(), error) {
	conn, err := grpc.NewClient(r.service.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return runnerv1.NewRunnerServiceClient(conn), func() { _ = conn.Close() }, nil
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// The bounds of a flood.
const (
	floodCallers = 20
	floodCalls   = 10_000
	floodEvery   = 20 * time.Millisecond // of each caller, on the real clock
)

// flood calls with tokens that have the form of a ServiceAccount's, and with some that do
// not.
func (r *Round) flood(ctx context.Context, f plan.Fault) bool {
	client, hangUp, err := r.dial()
	if err != nil {
		r.violate("flood: %v", err)
		return false
	}
	defer hangUp()
	r.note("%s", f)
	ctx, cancel := context.WithTimeout(ctx, r.clock.Real(f.For))
	defer cancel()
	// {"alg":"RS256","kid":"x"} . {"aud":["bitbucket-runner-scaler"],"exp":9999999999,"iss":"x","sub":"x"} . nothing
	const shaped = "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJhdWQiOlsiYml0YnVja2V0LXJ1bm5lci1zY2FsZXIiXSwiZXhwIjo5OTk5OTk5OTk5LCJpc3MiOiJ4Iiwic3ViIjoieCJ9."
	var calls atomic.Int64
	var callers sync.WaitGroup
	for range floodCallers {
		callers.Go(func() {
			for sleep(ctx, floodEvery) {
				n := calls.Add(1)
				if n > floodCalls {
					return
				}
				token := fmt.Sprintf("worthless-%d", n)
				if n%2 == 0 {
					token = fmt.Sprintf("%sc2lnbmF0dXJl%06d", shaped, n)
				}
				if _, err := client.Register(withToken(ctx, token), &runnerv1.RegisterRequest{}); err == nil {
					r.violate("a worthless token registered a runner")
				}
			}
		})
	}
	callers.Wait()
	r.note("%d calls with worthless tokens", calls.Load())
	return true
}

// reportFalsely has a pod that belongs to no Job report states and places of all runners.
func (r *Round) reportFalsely(ctx context.Context, number int, f plan.Fault) bool {
	token, err := r.podToken(ctx, fmt.Sprintf("liar-%d", number))
	if err != nil {
		r.note("no pod for %s: %v", f, err) // another fault keeps the API server busy
		return false
	}
	client, hangUp, err := r.dial()
	if err != nil {
		r.violate("false reports: %v", err)
		return false
	}
	defer hangUp()
	r.note("%s", f)
	ctx, cancel := context.WithTimeout(withToken(ctx, token), r.clock.Real(f.For))
	defer cancel()
	for sleep(ctx, lookEvery) {
		state, err := r.control.State(ctx)
		if err != nil {
			continue
		}
		for i, runner := range state.Runners {
			report := &runnerv1.AttachRequest{
				RunnerUuid: runner.UUID, State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Terminating: i%2 == 0,
				Place: &runnerv1.Place{Credentials: "default", WorkspaceUuid: fmt.Sprintf("{aaaaaaaa-0000-4000-8000-%012d}", i)},
			}
			if i%3 == 0 {
				report.State, report.StepUuid = runnerv1.RunnerState_RUNNER_STATE_BUSY, runner.UUID
			}
			if err := attach(ctx, client, report); err != nil {
				r.violate("false reports: %v", err)
				return true
			}
		}
	}
	return true
}

// attach sends a report, and returns an error if it gets an order.
func attach(ctx context.Context, client runnerv1.RunnerServiceClient, report *runnerv1.AttachRequest) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := client.Attach(ctx)
	if err != nil {
		return nil //nolint:nilerr // refused
	}
	_ = stream.Send(report) // an error shows in the answer
	if answer, err := stream.Recv(); err == nil {
		return fmt.Errorf("a pod that is no runner's got an answer to its report: %v", answer)
	}
	return nil
}

// podToken makes a pod that no node runs, and returns its token for the scaler.
func (r *Round) podToken(ctx context.Context, name string) (string, error) {
	namespace := r.namespace("a")
	pod, err := r.suite.Client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			ServiceAccountName: "bitbucket-runner", SchedulerName: noScheduler,
			Containers: []corev1.Container{{Name: "liar", Image: "liar"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	answer, err := r.suite.Client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "bitbucket-runner", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{runnerv1.Audience}, ExpirationSeconds: ptr.To[int64](3600),
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}
