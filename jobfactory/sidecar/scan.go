package sidecar

import "bytes"

// What the lines of Atlassian's runner (6.0) say of its state, as
//
//	Updating runner status to "ONLINE" and checking for new steps assigned to the runner after 0 seconds and then every 30 seconds.
//	Getting step StepId{accountUuid={…}, repositoryUuid={…}, pipelineUuid={…}, stepUuid={…}}.
//	Completing step with result Result{status=PASSED, error=None}.
//
// They are no documented interface: a line that is not known says nothing.
var (
	lineOnline = []byte(`Updating runner status to "ONLINE"`)
	// lineStep is followed by the step's identity. Whatever its shape, a runner that
	// gets a step is not idle.
	lineStep       = []byte(`Getting step `)
	lineStepUUID   = []byte(`stepUuid={`)
	lineCompleting = []byte(`Completing step with result`)
)

const (
	// maxLine is how much of a line is looked at; the known ones are shorter.
	maxLine = 4 << 10
	// maxUUID is longer than any UUID.
	maxUUID = 64
)

// sign is what a line of the runner's log announces.
type sign int

const (
	signOnline sign = iota + 1
	// signStep: it begins a step.
	signStep
	// signCompleting: its step has ended.
	signCompleting
)

// parseLine reads a line; it returns 0 where the line announces nothing. step is the
// UUID of the step that begins, empty where none is told.
func parseLine(line []byte) (found sign, step string) {
	if _, rest, ok := bytes.Cut(line, lineStep); ok {
		return signStep, stepUUID(rest)
	}
	switch {
	case bytes.Contains(line, lineCompleting):
		return signCompleting, ""
	case bytes.Contains(line, lineOnline):
		return signOnline, ""
	}
	return 0, ""
}

// stepUUID reads the step's UUID, braces included; empty where there is none.
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
	found func(found sign, step string)
	line  []byte
}

// scan takes the next bytes of the stream, cut anywhere.
func (s *scanner) scan(data []byte) {
	for {
		head, rest, ended := bytes.Cut(data, []byte{'\n'})
		// What goes beyond maxLine is left out; what stands before still counts.
		s.line = append(s.line, head[:min(len(head), maxLine-len(s.line))]...)
		if !ended {
			return
		}
		if found, step := parseLine(s.line); found != 0 {
			s.found(found, step)
		}
		s.line = s.line[:0]
		data = rest
	}
}
