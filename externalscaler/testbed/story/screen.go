package story

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/status"
)

// screen prints a line for each change and, on a terminal, a running clock below the
// lines.
type screen struct {
	out    io.Writer
	clock  *clock
	groups []Group
	begun  time.Time
	titled bool // before the first title, only the clock is shown
	last   string
	// err is the first error of out. Its reader may have disconnected.
	err error
}

func newScreen(out io.Writer, groups []Group) *screen {
	return &screen{out: out, clock: newClock(out), groups: groups, begun: time.Now()}
}

func (s *screen) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(s.out, format, args...); err != nil && s.err == nil {
		s.err = fmt.Errorf("write the story: %w", err)
	}
}

func (s *screen) title(text string) {
	s.clock.clear()
	s.printf("\n%s\n", text)
	s.titled, s.last = true, ""
}

// show prints the view if it differs from the last one.
func (s *screen) show(v View, waitedFor string) {
	queued, running, done, failed := steps(v)
	var b strings.Builder
	fmt.Fprintf(&b, "steps: %d queued, %d running, %d done", queued, running, done)
	if failed > 0 {
		fmt.Fprintf(&b, ", %d FAILED", failed)
	}
	for _, g := range s.groups {
		i := slices.IndexFunc(v.Groups, func(sg status.Group) bool { return sg.Name == g.Name })
		if i < 0 {
			continue
		}
		fmt.Fprintf(&b, "\n           %-8s Jobs %d | runners: %s | %s", g.Name, v.Jobs[g.Name], states(v.Groups[i].Runners), decision(v.Groups[i]))
	}
	if text := b.String(); s.titled && text != s.last {
		s.last = text
		s.clock.clear()
		s.printf("  %6.1fs  %s\n", time.Since(s.begun).Seconds(), text)
	}
	s.clock.show(time.Since(s.begun), waitedFor)
}

func decision(g status.Group) string {
	if g.Error != "" {
		return g.Error
	}
	return fmt.Sprintf("desired %d (%s: %s)", g.Desired, g.Reason, g.Note)
}

func states(runners map[string]int) string {
	parts := make([]string, 0, len(runners))
	for _, state := range slices.Sorted(maps.Keys(runners)) {
		parts = append(parts, fmt.Sprintf("%d %s", runners[state], state))
	}
	return cmp.Or(strings.Join(parts, ", "), "none")
}

func (s *screen) summary(v View) {
	_, _, done, failed := steps(v)
	c := v.Bitbucket.Counters
	calls := 0
	for _, n := range c.Calls {
		calls += n
	}
	s.clock.clear()
	s.printf("\nIn %.0f s: %d steps passed, %d failed; %d runners left; %d calls to Bitbucket.\n",
		time.Since(s.begun).Seconds(), done, failed, len(v.Bitbucket.Runners), calls)
}

// steps counts the steps by outcome.
func steps(v View) (queued, running, done, failed int) {
	for _, step := range v.Bitbucket.Steps {
		switch step.Outcome {
		case "queued":
			queued++
		case "running":
			running++
		case "passed":
			done++
		default:
			failed++
		}
	}
	return queued, running, done, failed
}

func online(v View, group string) int {
	for _, g := range v.Groups {
		if g.Name == group {
			return g.Runners["idle"] + g.Runners["busy"] + g.Runners["unknown"]
		}
	}
	return 0
}
