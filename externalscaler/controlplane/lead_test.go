package controlplane_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/leader"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/externalscaler/kube"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// standby never leads.
type standby struct{}

func (standby) Term() (leader.LeaseTerm, bool) { return leader.LeaseTerm{}, false }
func (standby) Run(ctx context.Context, _ func(context.Context) error) error {
	<-ctx.Done()
	return nil
}

func TestStandbyIsReadyAndRefusesCalls(t *testing.T) {
	config := quick()
	config.Election = standby{}
	p := start(t, config, map[string]string{"workspace": "acme"})
	d := p.pod(p.group)
	for range 20 { // calls over several poll intervals, in which a leader would have called Bitbucket
		if _, err := p.metric(p.group); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "standby") {
			t.Fatalf("GetMetrics: got %v", err)
		}
		p.http("/healthz", http.StatusOK)
	}
	if _, err := d.register(); status.Code(err) != codes.Unavailable {
		t.Errorf("Register: got %v", err)
	}
	stream, err := p.runners.Attach(d.ctx())
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("Attach: got %v", err)
	}
	conn := dial(t, p.GRPCAddress)
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: got %v, %v", health, err)
	}
	p.http("/readyz", http.StatusOK)
	if metrics := p.http("/metrics", http.StatusOK); !strings.Contains(metrics, "bitbucket_runner_scaler_leader 0\n") {
		t.Error("/metrics does not say that it is a standby")
	}
	if calls := p.state().Counters.Calls; len(calls) != 0 {
		t.Errorf("Bitbucket was called: %v", calls)
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// http reads a path of the plane's HTTP server.
func (p *plane) http(path string, want int) string {
	p.t.Helper()
	response, err := http.Get("http://" + p.HTTPAddress + path)
	if err != nil {
		p.t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != want {
		p.t.Errorf("%s: got %d, %v, want %d", path, response.StatusCode, err, want)
	}
	return string(body)
}

func TestNextLeaderAnswersAtOnceAndWritesLater(t *testing.T) {
	b := startPair(t)
	b.until("the Service to lead to the leader", func() bool { return b.ledTo() == "leader" })
	if _, err := b.metric(b.group); status.Code(err) != codes.Unavailable {
		t.Errorf("the standby: got %v", err)
	}
	b.leader.lock.interrupt(true)
	b.until("the standby to answer", func() bool { _, err := b.metric(b.group); return err == nil })
	term, leads := b.standby.election.Term()
	if !leads || term.From.IsZero() {
		t.Fatalf("got %+v, %v, want a term that begins later", term, leads)
	}
	if _, err := b.leaderMetric(); status.Code(err) != codes.Unavailable {
		t.Errorf("the previous leader: got %v", err)
	}
	d := b.pod(b.group)
	var first time.Time
	b.until("a registration", func() bool {
		_, err := d.register()
		if b.posts() > 0 && first.IsZero() {
			first = time.Now()
		}
		return err == nil
	})
	if first.Before(term.From) {
		t.Errorf("the first registration reached Bitbucket %v before the previous leader's writes have taken effect", term.From.Sub(first))
	}
	b.until("the Service to lead to the next leader alone", func() bool { return b.ledTo() == "standby" })
	if err := b.stop(); !errors.Is(err, kube.ErrLeaseLost) {
		t.Errorf("the previous leader ended with %v, want %v", err, kube.ErrLeaseLost)
	}
	if b.leader.lock.events.order("released") {
		t.Error("it released another's Lease")
	}
}

func TestLeaderRepairsTheLabel(t *testing.T) {
	b := startPair(t)
	b.until("the Service to lead to the leader", func() bool { return b.ledTo() == "leader" })
	if err := kube.NewLeaderService(b.client, "system", "standby").PointHere(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.until("the Service to lead to the leader again", func() bool { return b.ledTo() == "leader" })
}

func TestOrderlyStopFinishesCallsAndThenReleasesTheLease(t *testing.T) {
	b := startPair(t)
	busy := b.pod(b.group)
	attached, err := b.runners.Attach(busy.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if err := attached.Send(&runnerv1.AttachRequest{}); err != nil {
		t.Fatal(err)
	}
	b.faults(emulator.FaultRule{Method: "POST", Path: "*/pipelines-config/runners", Latency: "2s"})
	answered := make(chan error, 1)
	go func() {
		_, err := b.runners.Register(busy.ctx(), &runnerv1.RegisterRequest{})
		answered <- err
	}()
	registered := 0
	b.leader.lock.onRelease = func() { registered = len(b.state().Runners) }
	b.until("a registration in progress", func() bool { return b.posts() > 0 })
	if err := b.stop(); err != nil {
		t.Errorf("stop: got %v", err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the registration was cut: %v", err)
	}
	if _, err := attached.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the sidecar's stream ended with %v, want UNAVAILABLE", err)
	}
	if registered != 1 {
		t.Error("the Lease was released while a registration was in progress")
	}
	if seen := b.leader.lock.events; !seen.order("withdrawn", "released") {
		t.Errorf("got %q, want withdrawn before released", seen.all)
	}
	b.until("the next one to answer", func() bool { _, err := b.metric(b.group); return err == nil })
	if term, leads := b.standby.election.Term(); !leads || !term.From.IsZero() {
		t.Errorf("got %+v, %v, want it to write at once", term, leads)
	}
}
