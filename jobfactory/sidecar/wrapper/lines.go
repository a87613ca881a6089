package wrapper

import (
	"bytes"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

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
	lineStep       = []byte(`Getting step `)
	lineRepository = []byte(`repositoryUuid={`)
	linePipeline   = []byte(`pipelineUuid={`)
	lineStepUUID   = []byte(`stepUuid={`)
	lineCompleted  = []byte(`Completing step with result`)
	lineResult     = []byte(`status=`)
)

const (
	// maxLine is how much of a line is read, in bytes. The known lines are shorter.
	maxLine = 4 << 10
	// maxUUID is longer than any UUID, in bytes. maxResult is longer than any result.
	maxUUID   = 64
	maxResult = 32
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

// announcement is an event with what its line says of the step.
type announcement struct {
	event
	// step goes with eventStep, result with eventCompleted. What the line does not have is
	// empty.
	step   socket.Step
	result string
}

// parseLine returns what a line announces; the zero announcement for nothing.
func parseLine(line []byte) announcement {
	if _, rest, ok := bytes.Cut(line, lineStep); ok {
		return announcement{event: eventStep, step: socket.Step{
			Repository: uuidAfter(rest, lineRepository), Pipeline: uuidAfter(rest, linePipeline), UUID: uuidAfter(rest, lineStepUUID),
		}}
	}
	if _, rest, ok := bytes.Cut(line, lineCompleted); ok {
		return announcement{event: eventCompleted, result: resultIn(rest)}
	}
	if bytes.Contains(line, lineOnline) {
		return announcement{event: eventOnline}
	}
	return announcement{}
}

// uuidAfter returns the UUID in braces that follows a key, or an empty string if there is
// none.
func uuidAfter(line, key []byte) string {
	_, rest, ok := bytes.Cut(line, key)
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

// resultIn returns the status of a result, such as PASSED, or an empty string if there is
// none.
func resultIn(line []byte) string {
	_, rest, ok := bytes.Cut(line, lineResult)
	if !ok {
		return ""
	}
	end := bytes.IndexFunc(rest, func(c rune) bool { return (c < 'A' || c > 'Z') && c != '_' })
	if end < 1 || end > maxResult {
		return ""
	}
	return string(rest[:end])
}

// scanner finds the known lines in a stream, in bounded memory.
type scanner struct {
	observe func(announcement)
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
		if found := parseLine(s.line); found.event != 0 {
			s.observe(found)
		}
		s.line = s.line[:0]
		data = rest
	}
}
