package emulator_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// author writes random bitbucket-pipelines.yml files, as people might.
type author struct {
	*rand.Rand
	text    strings.Builder
	anchors []string // of steps
	blocks  []string // anchors of parallel blocks
	names   int
}

// oneIn is true once in so many times.
func (a *author) oneIn(n int) bool { return a.IntN(n) == 0 }

func (a *author) pick(from ...string) string { return from[a.IntN(len(from))] }

func (a *author) line(indent int, format string, args ...any) {
	fmt.Fprintf(&a.text, "%s%s\n", strings.Repeat(" ", indent), fmt.Sprintf(format, args...))
}

// file writes a file for a push, and the one from which it imports, if it does.
func (a *author) file(tag, pullRequest bool) (file, imported string) {
	if a.oneIn(3) {
		a.line(0, "options: {runs-on: %s}", a.pick("o", "[self.hosted, o]", "[]"))
	}
	a.line(0, "definitions:")
	a.line(2, "imports: {shared: ci/shared.yml}")
	a.line(2, "steps:")
	for n := range a.IntN(3) {
		a.line(4, "- step: &s%d %s", n, a.fields("", false))
		a.anchors = append(a.anchors, fmt.Sprintf("s%d", n))
	}
	a.line(0, "pipelines:")
	if a.oneIn(8) {
		a.line(2, "default: {import: exported@shared}")
	} else {
		a.line(2, "default:")
		a.pipeline(4)
	}
	a.line(2, "branches:")
	for _, pattern := range []string{"feature/*", "'feature/**'", "feature/bb-*", "'{release,hotfix}/*'", "develop", "dev?lop", "'*'"} {
		if a.oneIn(8) {
			a.line(4, "%s:", pattern)
			a.pipeline(6)
		}
	}
	if tag {
		a.line(2, "tags:")
		a.line(4, "'v*':")
		a.pipeline(6)
	}
	if pullRequest {
		a.line(2, "pull-requests:")
		a.line(4, "'**':")
		a.pipeline(6)
	}
	if a.oneIn(2) { // otherwise steps that start it are in error
		a.line(2, "custom:")
		a.line(4, "child:")
		a.line(6, "- variables: [{name: WHAT, default: all}]")
		a.pipeline(6)
	}
	if strings.Contains(a.text.String(), "custom:\n") && a.oneIn(3) {
		a.line(0, "triggers: {repository-push: [{condition: 'glob(BITBUCKET_BRANCH, \"feature/**\")', pipelines: [child]}]}")
	}
	if !strings.Contains(a.text.String(), "import:") {
		return a.text.String(), ""
	}
	other := &author{Rand: a.Rand}
	other.line(0, "definitions:")
	other.line(2, "pipelines:")
	other.line(4, "exported:")
	other.pipeline(6)
	return a.text.String(), other.text.String()
}

func (a *author) pipeline(indent int) {
	items := 1 + a.IntN(4)
	final := -1
	if a.oneIn(3) {
		final = a.IntN(items)
	}
	for i := range items {
		switch first := i == 0; a.IntN(5) {
		case 0:
			a.parallel(indent, first, true)
		case 1:
			a.stage(indent, first)
		default:
			a.step(indent, "step", "", first)
		}
		if i == final {
			a.step(indent, "final", "", false)
		}
	}
}

// step writes a step, an alias of one, or one with merged fields.
func (a *author) step(indent int, key, more string, first bool) {
	switch {
	case len(a.anchors) > 0 && more == "" && a.oneIn(5):
		a.line(indent, "- %s: *%s", key, a.pick(a.anchors...))
	case len(a.anchors) > 0 && a.oneIn(6):
		a.line(indent, "- %s: {<<: *%s, name: %s%s}", key, a.pick(a.anchors...), a.name(), more)
	case len(a.anchors) > 1 && a.oneIn(9):
		a.line(indent, "- %s:", key)
		a.line(indent+4, "<<: *%s", a.pick(a.anchors...))
		a.line(indent+4, "<<: *%s", a.pick(a.anchors...))
		if more != "" {
			a.line(indent+4, "%s", more[2:])
		}
	default:
		a.line(indent, "- %s: %s", key, a.fields(more, !first))
	}
}

func (a *author) name() string { return a.pick("A", "B", "C", "D", "E", "F") }

// fields writes the fields of a step.
func (a *author) fields(more string, manual bool) string {
	var fields []string
	if !a.oneIn(6) {
		fields = append(fields, "name: "+a.name())
	}
	switch a.IntN(8) {
	case 0:
		fields = append(fields, "runs-on: []")
	case 1:
		fields = append(fields, "runs-on: x")
	case 2:
		fields = append(fields, "size: 2x")
	case 3:
		fields = append(fields, "type: pipeline, custom: child")
	default:
		fields = append(fields, "runs-on: "+a.pick("[self.hosted, x]", "[self.hosted, linux, y]", `["x", y]`))
	}
	for _, field := range []string{
		"condition: {changesets: {includePaths: ['src/**']}}", "condition: {state: 'a == b'}",
		"on-fail: {strategy: ignore}", "on-fail: {strategy: retry}", "on-fail: {strategy: retry, max-retries: 2}", "on-fail: {strategy: fail}",
		"concurrency-group: g", "concurrency: {group: g}", "deployment: test",
	} {
		if key, _, _ := strings.Cut(field, ":"); a.oneIn(9) && !strings.Contains(strings.Join(fields, " "), key+":") {
			fields = append(fields, field)
		}
	}
	if manual && a.oneIn(7) {
		fields = append(fields, "trigger: manual")
	}
	fields = append(fields, "script: ["+a.pick("make", "sleep 5")+"]")
	return "{" + strings.Join(fields, ", ") + more + "}"
}

// parallel writes a group as a list or a mapping, or an alias of an earlier one.
func (a *author) parallel(indent int, first, shared bool) {
	steps := func(indent int) {
		for i := range 1 + a.IntN(3) {
			more := ""
			if a.oneIn(5) {
				more = ", fail-fast: " + a.pick("true", "false")
			}
			a.step(indent, "step", more, first && i == 0)
		}
	}
	if len(a.blocks) > 0 && a.oneIn(5) && !first {
		a.line(indent, "- parallel: *%s", a.pick(a.blocks...))
		return
	}
	anchor := ""
	if shared && a.oneIn(4) {
		a.names++
		anchor = fmt.Sprintf(" &p%d", a.names)
		a.blocks = append(a.blocks, anchor[2:])
	}
	a.line(indent, "- parallel:%s", anchor)
	if a.oneIn(2) {
		steps(indent + 4)
		return
	}
	if a.oneIn(2) {
		a.line(indent+4, "fail-fast: %s", a.pick("true", "false"))
	}
	if a.oneIn(5) {
		a.line(indent+4, "on-fail: {strategy: %s}", a.pick("ignore", "retry"))
	}
	a.line(indent+4, "steps:")
	steps(indent + 6)
}

func (a *author) stage(indent int, first bool) {
	a.line(indent, "- stage:")
	a.line(indent+4, "name: %s", a.pick("S", "T"))
	if a.oneIn(3) {
		a.line(indent+4, "trigger: manual")
	}
	if a.oneIn(4) {
		a.line(indent+4, "condition: {%s}", a.pick("changesets: {includePaths: ['src/**'], excludePaths: ['**/*.md']}", "state: 'a != b'"))
	}
	if a.oneIn(6) {
		a.line(indent+4, "on-fail: {strategy: %s}", a.pick("ignore", "retry"))
	}
	if a.oneIn(6) {
		a.line(indent+4, "deployment: test")
	}
	a.line(indent+4, "steps:")
	for i := range 1 + a.IntN(3) {
		if a.oneIn(4) {
			a.parallel(indent+6, first && i == 0, false)
		} else {
			a.step(indent+6, "step", "", first && i == 0)
		}
	}
}
