package registrar

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/scope"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestWhichScopesOfAReportAreRead(t *testing.T) {
	const w, r = "{11111111-1111-4111-8111-111111111111}", "{22222222-2222-4222-8222-222222222222}"
	for name, c := range map[string]struct {
		place *runnerv1.Place
		want  scope.ID
	}{
		"none":                   {},
		"a workspace":            {&runnerv1.Place{Credentials: "default", WorkspaceUuid: w}, scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: w}}},
		"a repository":           {&runnerv1.Place{Credentials: "default", WorkspaceUuid: w, RepositoryUuid: r}, scope.ID{Credentials: "default", Scope: bitbucket.Scope{Workspace: w, Repository: r}}},
		"a slug":                 {&runnerv1.Place{Credentials: "default", WorkspaceUuid: "acme"}, scope.ID{}},
		"a repository's slug":    {&runnerv1.Place{Credentials: "default", WorkspaceUuid: w, RepositoryUuid: "app"}, scope.ID{}},
		"no credentials set":     {&runnerv1.Place{WorkspaceUuid: w}, scope.ID{}},
		"a repository of nobody": {&runnerv1.Place{Credentials: "default", RepositoryUuid: r}, scope.ID{}},
	} {
		if got := scopeOf(c.place); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestOnlyTheNewestStreamOfAPodReports(t *testing.T) {
	r, w := start(t)
	older, newest := &session{}, &session{}
	r.sessions["pod-uid"] = newest
	if r.report("pod-uid", older, &runnerv1.AttachRequest{State: runnerv1.RunnerState_RUNNER_STATE_BUSY}) || len(w.reports) > 0 {
		t.Errorf("an older stream reported %v", w.reports)
	}
	if !r.report("pod-uid", newest, &runnerv1.AttachRequest{State: runnerv1.RunnerState_RUNNER_STATE_BUSY, StepUuid: "{5}"}) {
		t.Fatal("the newest stream was refused")
	}
	if got := w.reports[0]; got.Activity != fleet.ActivityBusy || got.StepUUID != "{5}" || !got.Attached {
		t.Errorf("got %+v", got)
	}
}

func TestStopIsOrderedOnlyOfAnAttachedSidecar(t *testing.T) {
	r, w := start(t)
	if r.Stop("pod-uid", "surplus") || w.stopping["pod-uid"] {
		t.Error("a sidecar that is not attached was told to stop")
	}
	mine := &session{orders: make(chan *runnerv1.AttachResponse, maxOrders)}
	r.sessions["pod-uid"] = mine
	if !r.Stop("pod-uid", "surplus") || !w.stopping["pod-uid"] {
		t.Error("the sidecar was not told")
	}
	if order := <-mine.orders; order.GetStop().GetReason() != "surplus" {
		t.Errorf("got %v", order)
	}
}

// stream is a sidecar's stream, which ends with the order to stop.
type stream struct {
	grpc.ServerStream
	ctx  context.Context //nolint:containedctx // as the streams of grpc do
	send func(*runnerv1.AttachResponse)
}

func (s stream) Context() context.Context { return s.ctx }
func (s stream) Recv() (*runnerv1.AttachRequest, error) {
	<-s.ctx.Done()
	return nil, s.ctx.Err()
}

func (s stream) Send(order *runnerv1.AttachResponse) error {
	s.send(order)
	return nil
}

func TestARunnerIsToldToEndOnceItsJobCountsNoMore(t *testing.T) {
	r, w := start(t)
	w.stopping["pod-uid"] = true // so the order to stop is sent as soon as the sidecar attaches
	ctx, cancel := context.WithCancel(with(t.Context(), "good"))
	told := false
	err := r.Attach(stream{ctx: ctx, send: func(order *runnerv1.AttachResponse) {
		if told = order.GetStop() != nil; told && !w.shown["pod-uid"] {
			t.Error("it was told while the last snapshot still counted it")
		}
		cancel()
	}})
	if !told || status.Code(err) != codes.Canceled {
		t.Errorf("told to stop: %v; got %v", told, err)
	}
}

func TestOnlyPodsOfRunnerJobsMayReport(t *testing.T) {
	r, _ := start(t)
	if err := r.knownPod(t.Context(), Identity{PodUID: "pod-uid"}); err != nil {
		t.Errorf("a pod of a runner Job: got %v", err)
	}
	if err := r.knownPod(t.Context(), Identity{PodUID: "any other"}); status.Code(err) != codes.NotFound {
		t.Errorf("any other pod: got %v, want %v", err, codes.NotFound)
	}
}
