package pipelines

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
)

// Side returns the definition of steps that run side by side.
func Side(labels []string, duration time.Duration, count int) definition.Pipeline {
	d := definition.Pipeline{Selector: definition.Selector{Type: definition.SelectDefault}, Groups: []definition.Group{{Parallel: true}}}
	g := &d.Groups[0]
	for n := range count {
		d.Steps = append(d.Steps, definition.Step{
			Name: fmt.Sprintf("Step %d", n+1), Labels: slices.Clone(labels), Groups: []int{0}, Stops: -1,
			Script: []string{fmt.Sprintf("sleep %g", duration.Seconds())}, Duration: duration, Sleeps: true,
		})
		g.Steps, g.First = append(g.Steps, n), append(g.First, n)
	}
	return d
}

// SideFile returns a bitbucket-pipelines.yml that defines the pipeline's steps, which run side by
// side. Labels are quoted, because YAML reads a plain 1.0 as a number.
func (p *Pipeline) SideFile() []byte {
	var b strings.Builder
	b.WriteString("pipelines:\n  default:\n    - parallel:\n")
	for _, st := range p.Steps {
		fmt.Fprintf(&b, "        - step:\n            name: %s\n            runs-on:\n", st.Name)
		for _, l := range st.Labels {
			fmt.Fprintf(&b, "              - %q\n", l)
		}
		fmt.Fprintf(&b, "            script:\n              - %s\n", st.Script[0])
	}
	return []byte(b.String())
}

// Log returns what the step has written up to now.
func (st *Step) Log() []byte {
	var b strings.Builder
	b.WriteString("Runner matching labels:\n")
	for _, l := range st.Labels {
		fmt.Fprintf(&b, "    - %s\n", l)
	}
	for _, line := range st.Script {
		fmt.Fprintf(&b, "+ %s\n", line)
	}
	if st.Ended() {
		fmt.Fprintf(&b, "Build %s\n", st.Outcome)
	}
	return []byte(b.String())
}
