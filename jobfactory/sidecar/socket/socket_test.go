package socket

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAReportSurvivesTheWire(t *testing.T) {
	for name, test := range map[string]struct{ sent, want Report }{
		"idle":             {Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Begun: 3}, Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Begun: 3}},
		"busy":             {Report{State: runnerv1.RunnerState_RUNNER_STATE_BUSY, Step: Step{UUID: "{a}"}, Begun: 1, Unrecognized: true}, Report{State: runnerv1.RunnerState_RUNNER_STATE_BUSY, Step: Step{UUID: "{a}"}, Begun: 1, Unrecognized: true}},
		"a step when idle": {Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Step: Step{UUID: "{a}"}}, Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE}},
		"after a step":     {Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Ended: EndedStep{Step{"{r}", "{p}", "{a}"}, "PASSED"}}, Report{State: runnerv1.RunnerState_RUNNER_STATE_IDLE, Ended: EndedStep{Step{"{r}", "{p}", "{a}"}, "PASSED"}}},
		"unknown state":    {Report{State: runnerv1.RunnerState(99)}, Report{State: runnerv1.RunnerState_RUNNER_STATE_UNKNOWN}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, StateMessage(test.sent).Report()); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsDoNotQuoteWhatWasReceived(t *testing.T) {
	sidecar, client := net.Pipe()
	conn := NewConn(sidecar)
	defer conn.Close()
	go func() {
		_, _ = client.Write([]byte("{\"environment\": s3cr3t}\n"))
		_ = client.Close()
	}()
	if _, err := conn.Receive(); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("got %v, want an error without the content", err)
	}
}

func TestALineThatIsTooLongIsRefused(t *testing.T) {
	sidecar, client := net.Pipe()
	conn := NewConn(sidecar)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = client.Write([]byte(strings.Repeat("x", maxToSidecar+1)))
	}()
	if _, err := conn.Receive(); err == nil {
		t.Errorf("accepted a line of more than %d bytes", maxToSidecar)
	}
	conn.Close()
	<-done
}

func TestReportsKeepTheLatestChanges(t *testing.T) {
	r := NewReports(Report{})
	for i := range uint32(2 * maxPending) {
		r.Put(Report{Begun: i + 1})
		r.Put(Report{Begun: i + 1}) // no change
	}
	got := r.Take()
	want := make([]Report, maxPending)
	for i := range want {
		want[i].Begun = uint32(maxPending + i + 1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
	r.Repeat()
	if diff := cmp.Diff([]Report{{Begun: 2 * maxPending}}, r.Take()); diff != "" {
		t.Errorf("repeated (-want +got):\n%s", diff)
	}
	r.Put(Report{Begun: 1})
	if latest := r.Restart(); latest.Begun != 1 || len(r.Take()) > 0 {
		t.Errorf("a new reader begins with %+v and more", latest)
	}
}

func TestPausesDoubleUpToTheMaximum(t *testing.T) {
	b := Backoff{Base: 100 * time.Millisecond, Maximum: time.Second}
	for round := range 2 {
		for try, milliseconds := range []int{100, 200, 400, 800, 1000, 1000} {
			pause := time.Duration(milliseconds) * time.Millisecond
			if got := b.Next(); got < pause/2 || got >= pause {
				t.Errorf("round %d, try %d: pause %s, want %s to %s", round, try, got, pause/2, pause)
			}
		}
		b.Reset()
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if Sleep(ctx, time.Hour) {
		t.Error("slept for an hour")
	}
	if !Sleep(t.Context(), time.Nanosecond) {
		t.Error("interrupted without a reason")
	}
}

func TestValidateDirNamesTheFault(t *testing.T) {
	for dir, want := range map[string]string{
		"run": `dir: "run", want an absolute path`, "/" + strings.Repeat("a", 100): "want a path of at most 94 bytes", "/" + strings.Repeat("a", 93): "",
	} {
		if err := ValidateDir(dir); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", dir, err, want)
		}
	}
}
