package wrapper

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestKnownLinesAnnounceEvents(t *testing.T) {
	const uuid = "{0a1b2c3d-1111-4111-8111-111111111111}"
	for name, tc := range map[string]struct {
		line string
		want announcement
	}{
		"online":              {`[2026-11-23 01:02:03,004] Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.`, announcement{event: eventOnline}},
		"step":                {`[x] Getting step StepId{accountUuid={a}, repositoryUuid={b}, pipelineUuid={c}, stepUuid=` + uuid + `}.`, announcement{event: eventStep, step: socket.Step{Repository: "{b}", Pipeline: "{c}", UUID: uuid}}},
		"step without a UUID": {`Getting step StepId{somethingElse}`, announcement{event: eventStep}},
		"step, other shape":   {`Getting step Step(id=1)`, announcement{event: eventStep}},
		"step with nonsense":  {`Getting step StepId{stepUuid={<script>}}`, announcement{event: eventStep}},
		"completed":           {`Completing step with result Result{status=PASSED, error=None}.`, announcement{event: eventCompleted, result: "PASSED"}},
		"failed":              {`Completing step with result Result{status=FAILED, error=Some{x}}.`, announcement{event: eventCompleted, result: "FAILED"}},
		"another result":      {`Completing step with result Result{status=<b>, error=None}.`, announcement{event: eventCompleted}},
		"no result":           {`Completing step with result`, announcement{event: eventCompleted}},
		"a long result":       {`Completing step with result Result{status=` + strings.Repeat("A", maxResult+1) + `}`, announcement{event: eventCompleted}},
		"another status":      {`Updating runner status to "OFFLINE"`, announcement{}},
		"anything":            {`Starting websocket listening to RUNNER_UPDATED events.`, announcement{}},
		"empty":               {``, announcement{}},
	} {
		t.Run(name, func(t *testing.T) {
			if found := parseLine([]byte(tc.line)); found != tc.want {
				t.Errorf("got %+v, want %+v", found, tc.want)
			}
		})
	}
}

func TestALongLineDoesNotHideTheNextOne(t *testing.T) {
	var found []event
	s := scanner{observe: func(one announcement) { found = append(found, one.event) }}
	s.scan([]byte(strings.Repeat("x", 10*maxLine)))
	s.scan([]byte("\nCompleting step with result\n"))
	if diff := cmp.Diff([]event{eventCompleted}, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if cap(s.line) > 2*maxLine {
		t.Errorf("%d bytes kept, want %d at most", cap(s.line), 2*maxLine)
	}
}

// writer is a function as an io.Writer.
type writer func(data []byte)

func (w writer) Write(data []byte) (int, error) {
	w(data)
	return len(data), nil
}

// A reader of the output may act on a line at once, such as by a signal.
func TestALineIsObservedBeforeItIsInTheOutput(t *testing.T) {
	observed := 0
	copied := writer(func(data []byte) {
		if len(data) > 0 && observed != 1 {
			t.Errorf("%q is in the output, %d events are observed", data, observed)
		}
	})
	pass(copied, strings.NewReader("Getting step x\n"), scanner{observe: func(announcement) { observed++ }})
	if observed != 1 {
		t.Errorf("%d events, want 1", observed)
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
		var whole, pieces, lines []announcement
		s := scanner{observe: func(found announcement) { whole = append(whole, found) }}
		s.scan(data)
		p := scanner{observe: func(found announcement) { pieces = append(pieces, found) }}
		for rest := data; len(rest) > 0; {
			n := min(cut, len(rest))
			p.scan(rest[:n])
			rest = rest[n:]
			if len(p.line) > maxLine {
				t.Fatalf("%d bytes kept of a line, want %d at most", len(p.line), maxLine)
			}
		}
		for _, line := range bytes.SplitAfter(data, []byte("\n")) {
			line, ended := bytes.CutSuffix(line, []byte("\n"))
			if found := parseLine(line[:min(len(line), maxLine)]); found.event != 0 && ended {
				lines = append(lines, found)
			}
		}
		if diff := cmp.Diff(lines, whole, cmp.AllowUnexported(announcement{})); diff != "" {
			t.Errorf("as a whole (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(lines, pieces, cmp.AllowUnexported(announcement{})); diff != "" {
			t.Errorf("in pieces (-want +got):\n%s", diff)
		}
		for _, r := range whole {
			for _, uuid := range []string{r.step.Repository, r.step.Pipeline, r.step.UUID} {
				if uuid != "" && (len(uuid) > maxUUID+2 || !strings.HasPrefix(uuid, "{")) {
					t.Errorf("%q is not a UUID", uuid)
				}
			}
			if len(r.result) > maxResult || strings.ContainsAny(r.result, " <>\"") {
				t.Errorf("result %q", r.result)
			}
		}
	})
}
