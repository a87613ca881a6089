package jobtemplate

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	// comment, statement and placeholder are what the autoscaler's template engine replaces:
	// Jinja with <% and %> around values. helmValue is what Helm replaces before it.
	comment     = regexp.MustCompile(`(?s)\{#.*?#\}`)
	statement   = regexp.MustCompile(`(?s)\{%[-+]?\s*(.*?)\s*[-+]?%\}`)
	placeholder = regexp.MustCompile(`<%.*?%>`)
	helmValue   = regexp.MustCompile(`\{\{.*?\}\}`)
)

// evaluator makes a template YAML, as far as that is possible without the values of a
// runner: what a condition or a loop contains is kept, its other branches are not.
type evaluator struct {
	notes []string
	// dropped has, for each block that is open, whether its present branch is dropped.
	dropped []bool
	// markers is the number of placeholders that were replaced.
	markers int
}

// evaluate returns the template as YAML with the same lines, and a note for each
// statement that may matter.
func evaluate(text string) (string, []string, error) {
	e := &evaluator{}
	text = comment.ReplaceAllStringFunc(text, func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) })
	text = statement.ReplaceAllStringFunc(text, func(s string) string {
		return strings.ReplaceAll(s, "\n", " ") + strings.Repeat("\n", strings.Count(s, "\n"))
	})
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if helm := helmValue.FindString(line); helm != "" && strings.TrimSpace(helmValue.ReplaceAllString(line, "")) == "" {
			return "", nil, fmt.Errorf("line %d: %s is a statement of Helm, want what `helm template` prints", i+1, helm)
		}
		lines[i] = e.values(e.line(line, i+1), i+1)
	}
	return strings.Join(lines, "\n"), e.notes, nil
}

// line returns a line without its statements, or nothing if its branch is dropped.
func (e *evaluator) line(line string, number int) string {
	found := statement.FindAllStringSubmatchIndex(line, -1)
	before := e.drops()
	depth := 0
	for _, at := range found {
		depth += opens(line[at[2]:at[3]])
	}
	// A condition that begins and ends in the line chooses between parts of it.
	if depth != 0 || strings.TrimSpace(statement.ReplaceAllString(line, "")) == "" || len(found) == 1 {
		for _, at := range found {
			e.step(line[at[2]:at[3]], number)
		}
	}
	if before && e.drops() || len(found) == 0 && e.drops() {
		return ""
	}
	return e.inline(line, found)
}

// inline removes statements around a line's content, and replaces a choice within it by
// a marker.
func (e *evaluator) inline(line string, found [][]int) string {
	if len(found) == 0 {
		return line
	}
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
	for len(found) > 0 && strings.TrimSpace(line[:found[0][0]]) == "" {
		rest := line[found[0][1]:]
		found = statement.FindAllStringSubmatchIndex(rest, -1)
		line = rest
		if len(found) == 1 && strings.TrimSpace(line[found[0][1]:]) == "" { // the end of a line's only content
			line = line[:found[0][0]]
		}
		line = indent + strings.TrimLeft(line, " ")
		found = statement.FindAllStringSubmatchIndex(line, -1)
	}
	switch len(found) {
	case 0:
		return strings.TrimRight(line, " ")
	case 1:
		return strings.TrimRight(line[:found[0][0]]+line[found[0][1]:], " ")
	}
	return line[:found[0][0]] + e.marker() + line[found[len(found)-1][1]:]
}

// opens returns 1 for a statement that begins a block, -1 for one that ends it.
func opens(text string) int {
	switch strings.Fields(text + " ?")[0] {
	case "if", "for":
		return 1
	case "endif", "endfor":
		return -1
	}
	return 0
}

func (e *evaluator) drops() bool {
	for _, dropped := range e.dropped {
		if dropped {
			return true
		}
	}
	return false
}

// step follows one statement.
func (e *evaluator) step(text string, line int) {
	last := len(e.dropped) - 1
	word := strings.Fields(text + " ?")[0]
	switch {
	case opens(text) > 0:
		if !e.drops() && !setByGroup.MatchString(text) {
			e.note(line, text, "is not evaluated: what it contains is carried over for every group")
		}
		e.dropped = append(e.dropped, false)
	case opens(text) < 0 && last >= 0:
		e.dropped = e.dropped[:last]
	case (word == "else" || word == "elif") && last >= 0:
		if !e.drops() {
			e.note(line, text, "is not evaluated: what follows it is not carried over")
		}
		e.dropped[last] = true
	default:
		e.note(line, text, "is not evaluated")
	}
}

// setByGroup matches conditions and loops about what a group's keys set.
var setByGroup = regexp.MustCompile(`\b(repository_?uuid|repositoryUuid|node_?selector|nodeSelector)\b`)

func (e *evaluator) note(line int, text, what string) {
	e.notes = append(e.notes, fmt.Sprintf("job template: line %d: {%% %s %%} %s", line, text, what))
}

// values replaces the placeholders of a line by markers.
func (e *evaluator) values(line string, number int) string {
	line = helmValue.ReplaceAllStringFunc(line, func(value string) string {
		e.notes = append(e.notes, fmt.Sprintf("job template: line %d: %s is a value of Helm: render the chart first, or give the value as a group's key", number, value))
		return e.marker()
	})
	return placeholder.ReplaceAllStringFunc(line, func(string) string { return e.marker() })
}

// marker returns the next text that stands for a value. They differ, because a value may
// be a key.
func (e *evaluator) marker() string {
	e.markers++
	return marker + strconv.Itoa(e.markers)
}
