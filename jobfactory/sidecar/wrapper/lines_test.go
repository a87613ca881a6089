package wrapper

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKnownLinesAnnounceEvents(t *testing.T) {
	const uuid = "{0a1b2c3d-1111-4111-8111-111111111111}"
	for name, tc := range map[string]struct {
		line  string
		found event
		step  string
	}{
		"online":              {`[2026-11-23 01:02:03,004] Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.`, eventOnline, ""},
		"step":                {`[x] Getting step StepId{accountUuid={a}, repositoryUuid={b}, pipelineUuid={c}, stepUuid=` + uuid + `}.`, eventStep, uuid},
		"step without a UUID": {`Getting step StepId{somethingElse}`, eventStep, ""},
		"step, other shape":   {`Getting step Step(id=1)`, eventStep, ""},
		"step with nonsense":  {`Getting step StepId{stepUuid={<script>}}`, eventStep, ""},
		"completed":           {`Completing step with result Result{status=PASSED, error=None}.`, eventCompleted, ""},
		"another status":      {`Updating runner status to "OFFLINE"`, 0, ""},
		"anything":            {`Starting websocket listening to RUNNER_UPDATED events.`, 0, ""},
		"empty":               {``, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found, step := parseLine([]byte(tc.line))
			if found != tc.found || step != tc.step {
				t.Errorf("got %v %q, want %v %q", found, step, tc.found, tc.step)
			}
		})
	}
}

func TestALongLineDoesNotHideTheNextOne(t *testing.T) {
	var found []event
	s := scanner{observe: func(one event, _ string) { found = append(found, one) }}
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
	pass(copied, strings.NewReader("Getting step x\n"), scanner{observe: func(event, string) { observed++ }})
	if observed != 1 {
		t.Errorf("%d events, want 1", observed)
	}
}

// announced is an event with its step.
type announced struct {
	found event
	step  string
}

func FuzzScannerFindsTheSameHoweverTheStreamIsCut(f *testing.F) {
	f.Add([]byte("Updating runner status to \"ONLINE\"\nGetting step StepId{stepUuid={aa-01}}\r\nCompleting step with result"), 7)
	f.Add([]byte("\x00\xff\n\n"), 1)
	f.Add([]byte(strings.Repeat("y", maxLine+1)+"\nCompleting step with result\n"), 1000)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if cut < 1 {
			cut = 1
		}
		var whole, pieces, lines []announced
		s := scanner{observe: func(found event, step string) { whole = append(whole, announced{found, step}) }}
		s.scan(data)
		p := scanner{observe: func(found event, step string) { pieces = append(pieces, announced{found, step}) }}
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
			if found, step := parseLine(line[:min(len(line), maxLine)]); found != 0 && ended {
				lines = append(lines, announced{found, step})
			}
		}
		if diff := cmp.Diff(lines, whole, cmp.AllowUnexported(announced{})); diff != "" {
			t.Errorf("as a whole (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(lines, pieces, cmp.AllowUnexported(announced{})); diff != "" {
			t.Errorf("in pieces (-want +got):\n%s", diff)
		}
		for _, r := range whole {
			if r.step != "" && (len(r.step) > maxUUID+2 || !strings.HasPrefix(r.step, "{")) {
				t.Errorf("step %q is not a UUID", r.step)
			}
		}
	})
}
