package pipelines

import (
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// SelfHosted is the label that every self-hosted runner has.
const SelfHosted = "self.hosted"

// Linux is the platform of a step that names none: Docker on amd64.
const Linux = "linux"

// platforms are the labels of which each runner has exactly one.
var platforms = []string{"linux.shell", "windows", "macos", "linux.arm64", Linux}

// Labels are the labels of a step (its runs-on, as written in the file) or of a runner.
type Labels []string

// Runner returns the labels of a runner with a platform and custom labels.
func Runner(platform string, custom ...string) Labels {
	return append(Labels{SelfHosted, platform}, custom...)
}

// Platform returns the platform of a step or runner: the platform label that it names, and
// linux if it names none.
func (l Labels) Platform() string {
	for _, platform := range platforms {
		if slices.Contains(l, platform) {
			return platform
		}
	}
	return Linux
}

// ServedBy reports whether a runner with the given labels can run a step with these labels:
// their platforms are equal, and the runner has all other labels of the step. Labels of a step
// on Atlassian's own runners (none) are served by no runner. A step that names two platforms
// is served by no runner, because no runner has two.
func (l Labels) ServedBy(runner Labels) bool {
	return len(l) > 0 && len(l.missing(runner)) == 0
}

// missing returns the labels of a step that keep a runner from running it. If the platforms
// differ, the step's platform is one of them, even if the file does not name it.
func (l Labels) missing(runner Labels) Labels {
	var missing Labels
	platform := l.Platform()
	if platform != runner.Platform() {
		missing = append(missing, platform)
	}
	for _, label := range l {
		switch {
		case label == platform, label == SelfHosted:
		case !slices.Contains(runner, label) && !slices.Contains(missing, label):
			missing = append(missing, label)
		}
	}
	return missing
}

// Hint says which runners come closest to a step that none of them can run.
type Hint struct {
	// Index of the nearest runner; -1 if none has anything in common with the step.
	Index int
	// Missing are the step's labels that the nearest runner lacks, its platform included.
	Missing Labels
	// Meant has, for some of the missing labels, the runner's label whose spelling is close.
	Meant map[string]string
}

const (
	// maxSpelling is the greatest edit distance of labels of which one may be a misspelling
	// of the other. At most a third of the letters may differ.
	maxSpelling = 3
	// maxLabel bounds the length of the labels that are compared letter by letter.
	maxLabel = 50
)

// Nearest returns the runner whose labels come closest to a step's. Each label that a runner
// lacks counts, a misspelt one less than one that is absent. Of equal ones the first wins.
func Nearest(step Labels, runners []Labels) Hint {
	hint, least := Hint{Index: -1}, 0
	for i, runner := range runners {
		missing := step.missing(runner)
		meant, cost := map[string]string{}, 0
		for _, label := range missing {
			cost += 2 * maxSpelling
			if near, distance := spelling(label, step, runner); near != "" {
				meant[label] = near
				cost += distance - 2*maxSpelling
			}
		}
		related := len(meant) > 0 || slices.ContainsFunc(step, func(label string) bool {
			return label != SelfHosted && !slices.Contains(platforms, label) && slices.Contains(runner, label)
		})
		if related && (hint.Index < 0 || cost < least) {
			hint, least = Hint{Index: i, Missing: missing, Meant: meant}, cost
		}
	}
	return hint
}

// spelling returns the label of a runner that is spelt most like a label that it lacks. Labels
// that the step asks for too are not meant.
func spelling(label string, step, runner Labels) (near string, distance int) {
	distance = maxSpelling + 1
	if len(label) > maxLabel || slices.Contains(platforms, label) {
		return "", 0
	}
	for _, other := range runner {
		if other == SelfHosted || slices.Contains(platforms, other) || slices.Contains(step, other) {
			continue
		}
		d := levenshtein.ComputeDistance(strings.ToLower(label), other)
		if d < distance && d <= max(1, len(other)/3) {
			near, distance = other, d
		}
	}
	return near, distance
}
