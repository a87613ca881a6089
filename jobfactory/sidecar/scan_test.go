package sidecar

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestKnownLinesTellTheState(t *testing.T) {
	const uuid = "{0a1b2c3d-1111-4111-8111-111111111111}"
	for name, tc := range map[string]struct {
		line  string
		state runnerv1.RunnerState
		step  string
		known bool
	}{
		"online":              {`[2026-11-23 01:02:03,004] Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.`, runnerv1.RunnerState_RUNNER_STATE_IDLE, "", true},
		"step":                {`[x] Getting step StepId{accountUuid={a}, repositoryUuid={b}, pipelineUuid={c}, stepUuid=` + uuid + `}.`, runnerv1.RunnerState_RUNNER_STATE_BUSY, uuid, true},
		"step without a UUID": {`Getting step StepId{somethingElse}`, runnerv1.RunnerState_RUNNER_STATE_BUSY, "", true},
		"step, other shape":   {`Getting step Step(id=1)`, runnerv1.RunnerState_RUNNER_STATE_BUSY, "", true},
		"step with nonsense":  {`Getting step StepId{stepUuid={<script>}}`, runnerv1.RunnerState_RUNNER_STATE_BUSY, "", true},
		"completed":           {`Completing step with result Result{status=PASSED, error=None}.`, runnerv1.RunnerState_RUNNER_STATE_IDLE, "", true},
		"another status":      {`Updating runner status to "OFFLINE"`, 0, "", false},
		"anything":            {`Starting websocket listening to RUNNER_UPDATED events.`, 0, "", false},
		"empty":               {``, 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, known := parseLine([]byte(tc.line))
			want := report{state: tc.state, step: tc.step}
			if known != tc.known || got != want {
				t.Errorf("got %v %v, want %v %v", got, known, want, tc.known)
			}
		})
	}
}

func TestALongLineHidesNoLaterOne(t *testing.T) {
	var found []report
	s := scanner{found: func(r report) { found = append(found, r) }}
	s.scan([]byte(strings.Repeat("x", 10*maxLine)))
	s.scan([]byte("\nCompleting step with result\n"))
	if diff := cmp.Diff(1, len(found)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if cap(s.line) > 2*maxLine {
		t.Errorf("%d bytes kept, want %d at most", cap(s.line), 2*maxLine)
	}
}

func FuzzScannerFindsTheSameHoweverTheStreamIsCut(f *testing.F) {
	f.Add([]byte("Updating runner status to \"ONLINE\"\nGetting step StepId{stepUuid={aa-01}}\r\nCompleting step with result"), 7)
	f.Add([]byte("\x00\xff\n\n"), 1)
	f.Add([]byte(strings.Repeat("y", maxLine+1)+"\nCompleting step with result\n"), 1000)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if cut < 1 {
			cut = 1
		}
		var whole, pieces []report
		s := scanner{found: func(r report) { whole = append(whole, r) }}
		s.scan(data)
		p := scanner{found: func(r report) { pieces = append(pieces, r) }}
		for rest := data; len(rest) > 0; {
			n := min(cut, len(rest))
			p.scan(rest[:n])
			rest = rest[n:]
			if len(p.line) > maxLine {
				t.Fatalf("%d bytes kept of a line, want %d at most", len(p.line), maxLine)
			}
		}
		var lines []report
		for _, line := range bytes.SplitAfter(data, []byte("\n")) {
			line, ended := bytes.CutSuffix(line, []byte("\n"))
			if r, ok := parseLine(line[:min(len(line), maxLine)]); ok && ended {
				lines = append(lines, r)
			}
		}
		if diff := cmp.Diff(lines, whole, cmp.AllowUnexported(report{})); diff != "" {
			t.Errorf("as a whole (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(lines, pieces, cmp.AllowUnexported(report{})); diff != "" {
			t.Errorf("in pieces (-want +got):\n%s", diff)
		}
		for _, r := range whole {
			if r.step != "" && (len(r.step) > maxUUID+2 || !strings.HasPrefix(r.step, "{")) {
				t.Errorf("step %q is no UUID", r.step)
			}
		}
	})
}
