package cluster

import (
	"fmt"
	"strings"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

// inputs are the inputs of a decision in the order in which a sentence names them.
var inputs = []struct{ name, words string }{
	{"pending", "pending"},
	{"starting", "starting"},
	{"idle", "idle"},
	{"busy", "busy"},
	{"unknown", "of unknown state"},
	{"draining", "draining"},
	{"drainingBusy", "draining with a step"},
	{"lost", "lost"},
	{"outdated", "to be replaced"},
	{"successors", "successor"},
	{"queued", "queued"},
	{"predicted", "predicted"},
	{"begun", "just begun"},
	{"spare", "spare"},
	{"otherRegistered", "of others in the scope"},
	{"otherReserved", "reserved for other groups"},
	{"min", "min"},
	{"max", "max"},
}

// sentence says what was decided, why, and from which numbers.
func sentence(d api.Decision) string {
	text := fmt.Sprintf("%d runners are wanted (%s): %s.", d.Effective, d.Reason, d.Note)
	if d.Effective == 1 {
		text = strings.Replace(text, "1 runners are", "1 runner is", 1)
	}
	if d.Desired != d.Effective {
		text += fmt.Sprintf(" The rules alone ask for %d.", d.Desired)
	}
	if d.Target != d.Effective {
		text += fmt.Sprintf(" KEDA is asked for %d Jobs, with those that are ending.", d.Target)
	}
	var numbers []string
	for _, input := range inputs {
		if n, ok := d.Inputs[input.name]; ok {
			if input.name == "min" || input.name == "max" {
				numbers = append(numbers, fmt.Sprintf("%s %d", input.words, n))
				continue
			}
			numbers = append(numbers, fmt.Sprintf("%d %s", n, input.words))
		}
	}
	return text + " Seen: " + strings.Join(numbers, ", ") + "."
}

// counted says how many runners there are of each state.
func counted(runners map[string]int) string {
	states := []string{"idle", "busy", "unknown", "starting", "pending", "draining", "draining busy", "replaced", "lost"}
	var parts []string
	total := 0
	for _, state := range states {
		if n := runners[state]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	switch total {
	case 0:
		return "no runners"
	case 1:
		return "1 runner: " + parts[0]
	}
	return fmt.Sprintf("%d runners: %s", total, strings.Join(parts, ", "))
}

func stepLine(s api.Step) string {
	name := s.UUID
	if s.Name != "" {
		name = fmt.Sprintf("%q of %s build %d", s.Name, s.Repository, s.Build)
	}
	line := fmt.Sprintf("%s: %s%s", name, s.State, since(s.Since))
	if s.State == api.StepRunning && s.Runner != "" {
		line += " on " + s.Runner
	}
	if len(s.Why) > 0 {
		line += ": " + s.Why[0].Message
	}
	return line
}
