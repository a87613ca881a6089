package pipelines

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// tree builds the steps of one pipeline.
type tree struct {
	reader *reader
	// defaults are the labels of the file's options.
	defaults labels
	steps    []Step
	final    *Step
}

// around is what a group passes on to its steps.
type around struct {
	failure     failure
	failFast    bool
	conditional bool
	// byHand means that the first step of the group waits for a person.
	byHand bool
	// within are the kinds of the groups, the innermost last.
	within []string
}

// failure is an on-fail, given or not.
type failure struct {
	strategy Failure
	retries  int
	given    bool
}

// pipeline reads the list of a pipeline.
func (r *reader) pipeline(node *yaml.Node, path string, defaults labels) Pipeline {
	r.broken = nil
	t := &tree{reader: r, defaults: defaults}
	p := Pipeline{Line: node.Line}
	p.Order = t.sequence(node, path, around{}, []string{"step", "parallel", "stage", "variables", "final"})
	if t.final != nil {
		t.final.Index = len(t.steps)
		t.steps = append(t.steps, *t.final)
	}
	p.Steps = t.steps
	if len(p.Steps) == 0 && r.broken == nil {
		r.fault(node, path, "", "want at least one step")
	}
	if r.broken != nil {
		return Pipeline{Line: node.Line, Unknown: r.broken.Error()}
	}
	return p
}

// sequence reads a list of steps and groups.
func (t *tree) sequence(node *yaml.Node, path string, a around, accepted []string) []Node {
	list := t.reader.list(node, path, "want a list of "+strings.Join(accepted, ", "))
	var nodes []Node
	for i, item := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if len(nodes) > 0 && !a.sideBySide() {
			a.byHand = false // the person who started the first one started the group
		}
		if read, ok := t.item(item, at, a, accepted); ok {
			nodes = append(nodes, read)
		}
		if len(t.steps) > MaxSteps {
			return nil
		}
	}
	return nodes
}

// item reads one item of a list: a mapping with one key that says what it is.
func (t *tree) item(node *yaml.Node, path string, a around, accepted []string) (Node, bool) {
	want := "want one of " + strings.Join(accepted, ", ")
	m := t.reader.mapping(node, path, want)
	if m == nil {
		return Node{}, false
	}
	if len(m.entries) != 1 {
		t.reader.fault(m.node, path, "", want+", and nothing beside it")
		return Node{}, false
	}
	key := m.entries[0].key
	path = under(path, key.Value)
	switch value := m.get(key.Value); {
	case !slices.Contains(accepted, key.Value):
		t.reader.fault(key, path, key.Value, want)
	case key.Value == "step":
		return t.step(m, path, a)
	case key.Value == "parallel":
		return t.parallel(value, m, path, a)
	case key.Value == "stage":
		return t.stage(m, path, a)
	case key.Value == "final":
		t.readFinal(m, path, a)
	}
	return Node{}, false
}

func (t *tree) parallel(value *yaml.Node, m *mapping, path string, a around) (Node, bool) {
	inside := a.inside("parallel")
	list := m.raw("parallel")
	node := Node{Kind: Parallel}
	if value != nil && value.Kind == yaml.MappingNode {
		group := t.reader.mapping(list, path, "")
		failFast, _ := group.boolean("fail-fast")
		inside.failFast = failFast
		node.Gates = t.gates(group)
		inside = inside.behind(node.Gates, t.onFail(group))
		list, path = group.raw("steps"), under(path, "steps")
		if list == nil {
			t.reader.fault(group.node, path, "", "missing, want a list of steps")
			return Node{}, false
		}
	}
	node.Nodes = t.sequence(list, path, inside, inside.accepted("step", "stage"))
	return node, len(node.Nodes) > 0
}

func (t *tree) stage(m *mapping, path string, a around) (Node, bool) {
	stage := t.reader.mapping(m.raw("stage"), path, "want a mapping with the stage's steps")
	if stage == nil {
		return Node{}, false
	}
	node := Node{Kind: Stage, Name: stage.text("name"), Gates: t.gates(stage)}
	if stage.has("runs-on") {
		t.reader.fault(stage.raw("runs-on"), under(path, "runs-on"), "", "a stage has none, want it on its steps")
	}
	inside := a.inside("stage").behind(node.Gates, t.onFail(stage))
	list, path := stage.raw("steps"), under(path, "steps")
	if list == nil {
		t.reader.fault(stage.node, path, "", "missing, want a list of steps")
		return Node{}, false
	}
	node.Nodes = t.sequence(list, path, inside, inside.accepted("step", "parallel"))
	return node, len(node.Nodes) > 0
}

// inside returns what a group's steps get from what is around the group.
func (a around) inside(kind string) around {
	a.within = append(slices.Clone(a.within), kind)
	return a
}

// sideBySide reports whether the innermost group is a parallel one.
func (a around) sideBySide() bool {
	return len(a.within) > 0 && a.within[len(a.within)-1] == "parallel"
}

// accepted removes the groups that are around a list already: none contains its own kind.
func (a around) accepted(kinds ...string) []string {
	return slices.DeleteFunc(kinds, func(kind string) bool { return slices.Contains(a.within, kind) })
}

// behind adds a group's own gates and its on-fail.
func (a around) behind(gates Gates, onFail failure) around {
	a.conditional = a.conditional || gates.Condition != Always
	a.byHand = a.byHand || gates.Manual
	if onFail.given {
		a.failure = onFail
	}
	return a
}

func (t *tree) readFinal(m *mapping, path string, a around) {
	if t.final != nil {
		t.reader.fault(m.node, path, "", "want one final step")
		return
	}
	if step, ok := t.read(m, "final", path, a); ok {
		step.Final = true
		t.final = &step
	}
	t.checkCount(m, path)
}

func (t *tree) step(m *mapping, path string, a around) (Node, bool) {
	step, ok := t.read(m, "step", path, a)
	if !ok {
		return Node{}, false
	}
	step.Index = len(t.steps)
	t.steps = append(t.steps, step)
	t.checkCount(m, path)
	return Node{Kind: OneStep, Step: step.Index}, true
}

func (t *tree) checkCount(m *mapping, path string) {
	count := len(t.steps)
	if t.final != nil {
		count++
	}
	if count == MaxSteps+1 {
		t.reader.fault(m.node, path, "", fmt.Sprintf("want at most %d steps in a pipeline", MaxSteps))
	}
}

// read reads the step that is the value of a key.
func (t *tree) read(m *mapping, key, path string, a around) (Step, bool) {
	s := t.reader.mapping(m.raw(key), path, "want a mapping with the step's fields")
	if s == nil {
		return Step{}, false
	}
	step := Step{Name: strings.TrimSpace(s.text("name")), Line: s.node.Line, Gates: t.gates(s), FailFast: a.failFast}
	step.Conditional = a.conditional || step.Condition != Always
	step.FromHand = a.byHand || step.Manual
	if failFast, given := s.boolean("fail-fast"); given {
		step.FailFast = failFast
	}
	onFail := t.onFail(s)
	if !onFail.given {
		onFail = a.failure
	}
	step.Failure, step.MaxRetries = onFail.strategy, onFail.retries
	if step.Child = s.text("type") == "pipeline"; step.Child {
		step.ChildName = s.text("custom")
		return step, true
	}
	runsOn := t.reader.runsOn(s)
	if step.ownLabels = runsOn.given; !runsOn.given {
		runsOn = t.defaults
	}
	step.Labels, step.Unknown = slices.Clone(runsOn.names), runsOn.unknown
	return step, true
}

// gates reads what holds back a step or a group.
func (t *tree) gates(m *mapping) Gates {
	gates := Gates{
		Manual:     m.word("trigger", "automatic", "manual") == "manual",
		Deployment: m.text("deployment"),
		Condition:  t.condition(m),
	}
	gates.ConcurrencyGroup = m.text("concurrency-group")
	if concurrency := m.get("concurrency"); gates.ConcurrencyGroup == "" && concurrency != nil {
		path := under(m.path, "concurrency")
		gates.ConcurrencyGroup = t.reader.mapping(concurrency, path, "want a mapping with the group").text("group")
	}
	return gates
}

func (t *tree) condition(m *mapping) Condition {
	given := m.get("condition")
	if given == nil {
		return Always
	}
	condition := t.reader.mapping(given, under(m.path, "condition"), "want a mapping with changesets or state")
	if condition.has("changesets") && len(condition.entries) == 1 {
		return Changesets
	}
	return Expression
}

func (t *tree) onFail(m *mapping) failure {
	given := m.get("on-fail")
	if given == nil {
		return failure{}
	}
	onFail := t.reader.mapping(given, under(m.path, "on-fail"), "want a mapping with the strategy")
	switch strategy := onFail.text("strategy"); strategy {
	case "fail", "":
		return failure{given: true}
	case "ignore":
		return failure{strategy: Ignore, given: true}
	case "retry":
		retries := 1
		for _, key := range []string{"max-retries", "maxRetryCount", "max-retry-count"} {
			retries = onFail.number(key, retries)
		}
		return failure{strategy: Retry, retries: retries, given: true}
	default:
		return failure{strategy: OtherStrategy, given: true}
	}
}
