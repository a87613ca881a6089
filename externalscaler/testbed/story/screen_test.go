package story

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// vt is a terminal that understands what the screen writes.
type vt struct {
	width, height int
	cells         [][]rune
	row, column   int
	hidden        bool
	wrapped       int
	// scrolled is how many lines have left at the top.
	scrolled int
	frames   []string
	writes   []time.Time
	raw      bytes.Buffer
}

func newVT(width, height int) *vt {
	v := &vt{width: width, height: height}
	v.erase()
	return v
}

func (v *vt) erase() {
	v.cells = nil
	for range v.height {
		v.cells = append(v.cells, v.blank())
	}
}

func (v *vt) blank() []rune { return []rune(strings.Repeat(" ", v.width)) }

func (v *vt) String() string {
	lines := make([]string, 0, v.height)
	for _, line := range v.cells {
		lines = append(lines, strings.TrimRight(string(line), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

var sequence = regexp.MustCompile(`^\x1b\[(\??[0-9;]*)([A-Za-z])`)

// Write implements io.Writer. Each write is a frame.
func (v *vt) Write(p []byte) (int, error) {
	v.raw.Write(p)
	for text := string(p); text != ""; {
		if found := sequence.FindStringSubmatch(text); found != nil {
			v.obey(found[1], found[2])
			text = text[len(found[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		v.put(r)
	}
	v.frames, v.writes = append(v.frames, v.String()), append(v.writes, time.Now())
	return len(p), nil
}

func (v *vt) obey(argument, kind string) {
	switch kind {
	case "A":
		n := 0
		_, _ = fmt.Sscan(argument, &n)
		v.row = max(0, v.row-n)
	case "K":
		copy(v.cells[v.row][v.column:], v.blank())
	case "J":
		if argument == "2" {
			v.erase()
			return
		}
		for row := v.row + 1; row < v.height; row++ {
			v.cells[row] = v.blank()
		}
	case "H":
		v.row, v.column = 0, 0
	case "l", "h":
		v.hidden = kind == "l"
	case "m":
	default:
		panic("unknown sequence " + argument + kind)
	}
}

func (v *vt) put(r rune) {
	switch r {
	case '\r':
		v.column = 0
		return
	case '\n':
		if v.row++; v.row == v.height {
			v.row = v.height - 1
			v.cells = append(v.cells[1:], v.blank())
			v.scrolled++
		}
		return
	}
	if v.column == v.width {
		v.wrapped++
		v.column = 0
	}
	v.cells[v.row][v.column] = r
	v.column++
}

func (v *vt) size() (int, int) { return v.width, v.height }

// played runs the story on a terminal.
func played(t *testing.T, v *vt, coloured bool, s *stage) error {
	t.Helper()
	return run(t.Context(), s, s, settings, &terminal{out: v, size: v.size, coloured: coloured})
}

// The story is one screen that fits 80 columns and 24 lines and is drawn in place. The last
// one stays, and the cursor is back.
func TestTheScreenIsDrawnInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVT(80, 24)
		if err := played(t, v, true, newStage()); err != nil {
			t.Fatal(err)
		}
		if v.wrapped+v.scrolled > 0 || v.hidden {
			t.Errorf("%d lines wrapped, %d scrolled, cursor hidden: %v", v.wrapped, v.scrolled, v.hidden)
		}
		for _, want := range []string{
			" done The minimum of each group    2.", "  now The minimum of each group", "2 pods start, their runners register",
			"waits: app Unit, API, UI, Load, Lint: after Build", "waits: web Bundle: for a runner, 1.", "#+  1 busy, 1 starting",
			"until it is heard of", "4 starting, 0.", "  now Deploy waits for a person", "waits: app Deploy: for a person to start it",
			"waits: app Deploy: after UI and Load", "  now The surplus is retired", "  now An orphan is removed",
		} {
			if !slices.ContainsFunc(v.frames, func(f string) bool { return strings.Contains(f, want) }) {
				t.Errorf("no screen shows %q; one is\n%s", want, v.frames[len(v.frames)/3])
			}
		}
		final := v.String()
		if n := strings.Count(final, " done "); n != 8 || !strings.Contains(final, "10 of 10 steps passed; 0 runners left") {
			t.Errorf("the last screen has %d chapters that ended:\n%s", n, final)
		}
	})
}

// A line that fills the terminal was longer.
func TestNoLineOfAScreenIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVT(80, 24)
		if err := played(t, v, false, newStage()); err != nil {
			t.Fatal(err)
		}
		for _, frame := range v.frames {
			for line := range strings.SplitSeq(frame, "\n") {
				if len(line) >= 79 {
					t.Fatalf("%q is cut in\n%s", line, frame)
				}
			}
		}
	})
}

// While the stage is slow to look at, the screen still changes.
func TestTheScreenNeverStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, s := newVT(80, 24), newStage()
		s.slow = 7 * time.Second
		err := played(t, v, true, s)
		for i := 1; i < len(v.writes); i++ {
			gap := v.writes[i].Sub(v.writes[i-1])
			if last := i == len(v.writes)-1; gap > time.Second || !last && v.frames[i] == v.frames[i-1] && gap > 0 {
				t.Fatalf("%v after %v shows nothing new (%v):\n%s", gap, v.writes[i-1].Sub(s.begun), err, v.frames[i])
			}
		}
		if len(v.writes) < 100 {
			t.Errorf("%d writes", len(v.writes))
		}
	})
}

func TestASmallOrChangedTerminalKeepsTheScreenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, drawn := newVT(40, 10), 0
		size := func() (int, int) {
			if drawn++; drawn == 20 {
				v.width, v.height = 70, 30
				v.erase()
				v.row, v.column = 25, 3 // wherever the terminal's own wrapping has left it
			}
			return v.size()
		}
		s := newStage()
		if err := run(t.Context(), s, s, settings, &terminal{out: v, size: size}); err != nil || v.wrapped > 0 {
			t.Errorf("%d lines wrapped, %v", v.wrapped, err)
		}
		if frame := v.frames[40]; strings.Count(frame, "the pipelines of") != 1 || !strings.Contains(strings.Split(frame, "\n")[0], "s  the pipelines of") {
			t.Errorf("after the change:\n%s", frame)
		}
	})
}

func TestWithoutColoursTheScreenHasNone(t *testing.T) {
	colours := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, coloured := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			v := newVT(80, 24)
			if err := played(t, v, coloured, newStage()); err != nil {
				t.Fatal(err)
			}
			if got := colours.MatchString(v.raw.String()); got != coloured {
				t.Errorf("coloured: got %v, want %v", got, coloured)
			}
		})
	}
}

// Without a terminal there is one line for each change of a group, without control characters.
func TestTheLogHasALineForEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		var out bytes.Buffer
		if err := Run(t.Context(), s, s, settings, &out); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\r\x1b\t") {
			t.Errorf("control characters in %q", &out)
		}
		last := map[string]string{}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if len(line) > logWidth || line == "" {
				t.Errorf("%d columns: %q", len(line), line)
			}
			fields := strings.SplitN(strings.TrimSpace(line), " ", 3) // time, group, text
			if group := fields[1]; line[0] == ' ' && len(fields) == 3 {
				words := strings.Fields(line)
				if text := strings.Join(words[2:], " "); text == last[words[1]] {
					t.Errorf("nothing has changed of %s: %q", group, line)
				} else {
					last[words[1]] = text
				}
			}
		}
		for _, want := range []string{
			"story   now: Deploy waits for a person: nothing is started for it before\n",
			"builds  1 idle, desired 1; waits: app Build until it is heard of, Deploy after Build; we...\n",
			"tests   1 idle, desired 1; waits: app 5 until it is heard of; web 2 after Bundle\n",
			"tests   1 busy, 4 starting, desired 5; waits: app 4 for a runner; web 2 after Bundle\n",
			"Five tests began to wait: 4 Jobs in one poll after 0.7 s.\n",
			"A webhook told of a step without a runner: its Job after 0.7 s.\n",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("lacks %q:\n%s", want, &out)
			}
		}
	})
}
