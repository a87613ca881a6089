package wrapper

import "bytes"

// Log lines of Atlassian's runner (6.0) that announce its state, such as
//
//	Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.
//	Getting step StepId{accountUuid={…}, repositoryUuid={…}, pipelineUuid={…}, stepUuid={…}}.
//	Completing step with result Result{status=PASSED, error=None}.
//
// They are not a documented interface. A line that is not known announces nothing.
var (
	lineOnline = []byte(`Updating runner status to "ONLINE"`)
	// lineStep precedes the step's identity. A runner that gets a step is busy, even
	// if the identity has an unknown format.
	lineStep      = []byte(`Getting step `)
	lineStepUUID  = []byte(`stepUuid={`)
	lineCompleted = []byte(`Completing step with result`)
)

const (
	// maxLine is how much of a line is read, in bytes. The known lines are shorter.
	maxLine = 4 << 10
	// maxUUID is longer than any UUID, in bytes.
	maxUUID = 64
)

// event is what a line of the runner's log announces.
type event int

const (
	// eventOnline: the runner is online.
	eventOnline event = iota + 1
	// eventStep: the runner begins a step.
	eventStep
	// eventCompleted: the runner's step has ended.
	eventCompleted
)

// parseLine returns the event that a line announces, 0 for none, and the UUID of
// the step that begins, empty if the line does not have it.
func parseLine(line []byte) (found event, step string) {
	if _, rest, ok := bytes.Cut(line, lineStep); ok {
		return eventStep, stepUUID(rest)
	}
	switch {
	case bytes.Contains(line, lineCompleted):
		return eventCompleted, ""
	case bytes.Contains(line, lineOnline):
		return eventOnline, ""
	}
	return 0, ""
}

// stepUUID returns a step's UUID in braces, or an empty string if there is none.
func stepUUID(step []byte) string {
	_, rest, ok := bytes.Cut(step, lineStepUUID)
	if !ok {
		return ""
	}
	uuid, _, ok := bytes.Cut(rest, []byte("}"))
	if !ok || len(uuid) == 0 || len(uuid) > maxUUID {
		return ""
	}
	for _, c := range uuid {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') && c != '-' {
			return ""
		}
	}
	return "{" + string(uuid) + "}"
}

// scanner finds the known lines in a stream, in bounded memory.
type scanner struct {
	observe func(found event, step string)
	// keep takes each line; nil if nobody needs them.
	keep func(line []byte)
	line []byte
}

// end ends the current line. At the end of the stream the last line may have no end of its
// own.
func (s *scanner) end() {
	if s.keep != nil {
		s.keep(s.line)
	}
}

// scan takes the next bytes of the stream, which may be cut anywhere.
func (s *scanner) scan(data []byte) {
	for {
		head, rest, ended := bytes.Cut(data, []byte{'\n'})
		// The first maxLine bytes of a line count, the rest is dropped.
		s.line = append(s.line, head[:min(len(head), maxLine-len(s.line))]...)
		if !ended {
			return
		}
		s.end()
		if found, step := parseLine(s.line); found != 0 {
			s.observe(found, step)
		}
		s.line = s.line[:0]
		data = rest
	}
}
