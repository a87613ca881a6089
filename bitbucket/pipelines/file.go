package pipelines

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// File is the content of a bitbucket-pipelines.yml, or of a file that it imports from. It is
// immutable.
type File struct {
	// definitions are the pipelines in the file's order.
	definitions []definition
	// exports are the pipelines under definitions.pipelines by name, for files that import them.
	exports  map[string]definition
	triggers []Trigger
	// options are the labels of the file's options.
	options labels
	// sources are what definitions.imports names.
	sources map[string]source
	// imported are the files of the same repository by path.
	imported map[string]*File
}

// definition is a pipeline of a file, or where it is imported from.
type definition struct {
	pipeline Pipeline
	imports  string
}

// source is where pipelines can be imported from: a file of the same repository, or another
// repository.
type source struct{ path, elsewhere string }

// Trigger is a rule that starts custom pipelines on an event if its condition holds.
type Trigger struct {
	// Event such as repository-push.
	Event string
	// Condition as written. It depends on variables, so it is not evaluated.
	Condition string
	// Pipelines are the names of the custom pipelines that it starts.
	Pipelines []string
	// Line of the rule.
	Line int
}

// sections are the keys under pipelines whose values are pipelines by pattern or name.
var sections = []string{Branches, Tags, Bookmarks, PullRequests, Custom}

// Parse reads a file. The error joins a *FileError for everything in it that Bitbucket would
// refuse, or that has more than one meaning.
//
// Together with an error the file may still be there: then a fault affects only the pipelines
// that contain it, and Select returns those as unknown, with the fault as the reason. The file
// is nil if nothing can be read: it is not YAML, larger than MaxSize, or nested too deeply.
// Unknown keys are ignored, because Bitbucket adds new ones.
func Parse(data []byte) (*File, error) {
	r := &reader{}
	var ok bool
	if r.document, ok = parse(data, &r.faults); !ok {
		return nil, r.err()
	}
	root := r.mapping(r.root, "", "want a mapping with pipelines")
	if root == nil || len(r.twice[root.node]) > 0 {
		return nil, r.err() // which of two pipelines or options counts is not known
	}
	f := &File{exports: map[string]definition{}, sources: map[string]source{}, imported: map[string]*File{}}
	if options := root.get("options"); options != nil {
		r.broken = nil
		f.options = r.runsOn(r.mapping(options, "options", "want a mapping"))
		if r.broken != nil {
			f.options = labels{given: true, unknown: r.broken.Error()}
		}
	}
	f.readDefinitions(r, root.get("definitions"))
	if pipelines := root.get("pipelines"); pipelines != nil {
		f.readPipelines(r, pipelines)
	}
	if len(f.definitions)+len(f.exports) == 0 && r.err() == nil {
		r.fault(r.root, "pipelines", "", "missing, want at least one pipeline")
	}
	f.readTriggers(r, root.get("triggers"))
	return f, r.err()
}

// readDefinitions reads the pipelines that the file exports and the sources of its imports.
func (f *File) readDefinitions(r *reader, node *yaml.Node) {
	if node == nil {
		return
	}
	definitions := r.mapping(node, "definitions", "want a mapping")
	if exports := definitions.get("pipelines"); exports != nil {
		path := "definitions.pipelines"
		named := r.mapping(exports, path, "want a mapping of names to pipelines")
		for name, value := range named.all() {
			f.exports[name] = f.read(r, value, under(path, name))
		}
	}
	if imports := definitions.get("imports"); imports != nil {
		path := "definitions.imports"
		named := r.mapping(imports, path, "want a mapping of names to sources")
		for name := range named.all() {
			f.sources[name] = sourceOf(named.text(name))
		}
	}
}

// sourceOf reads a source: the path of a file of the same repository, or a repository and a
// ref with a colon between them.
func sourceOf(given string) source {
	repository, ref, other := strings.Cut(given, ":")
	switch {
	case given == "":
		return source{elsewhere: "its source has no path"}
	case other:
		return source{elsewhere: fmt.Sprintf("it is imported from the repository %s at %s", shorten(repository), shorten(ref))}
	}
	return source{path: strings.TrimPrefix(given, "./")}
}

func (f *File) readPipelines(r *reader, node *yaml.Node) {
	pipelines := r.mapping(node, "pipelines", "want a mapping of default, branches and so on to pipelines")
	for kind, value := range pipelines.all() {
		path := under("pipelines", kind)
		switch {
		case kind == Default:
			f.define(r, Selector{Type: Default}, value, path)
		case slices.Contains(sections, kind):
			if isNull(value) {
				continue // a section without pipelines
			}
			section := r.mapping(value, path, "want a mapping of patterns or names to pipelines")
			for pattern, value := range section.all() {
				f.define(r, Selector{Type: kind, Pattern: pattern}, value, under(path, pattern))
			}
		default:
			r.fault(value, path, kind, "want one of "+Default+", "+strings.Join(sections, ", "))
		}
	}
}

// define adds the pipeline of a selector.
func (f *File) define(r *reader, selector Selector, node *yaml.Node, path string) {
	d := f.read(r, node, path)
	d.pipeline.Selector = selector
	f.definitions = append(f.definitions, d)
}

// read reads a pipeline: a list of steps, or a mapping that imports it.
func (f *File) read(r *reader, node *yaml.Node, path string) definition {
	r.broken = nil
	given := r.value(node, path)
	if given == nil || given.Kind != yaml.MappingNode {
		return definition{pipeline: r.pipeline(node, path, f.options)}
	}
	m := r.mapping(node, path, "")
	d := definition{imports: m.text("import"), pipeline: Pipeline{Line: given.Line}}
	if d.imports == "" && r.broken == nil {
		r.fault(given, path, "a mapping", "want a list of steps, or import")
	}
	if r.broken != nil {
		d.pipeline.Unknown, d.imports = r.broken.Error(), ""
	}
	return d
}

func (f *File) readTriggers(r *reader, node *yaml.Node) {
	if node == nil {
		return
	}
	events := r.mapping(node, "triggers", "want a mapping of events to rules")
	for event, value := range events.all() {
		path := under("triggers", event)
		for i, rule := range r.list(value, path, "want a list of rules") {
			f.readRule(r, rule, event, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

func (f *File) readRule(r *reader, node *yaml.Node, event, path string) {
	rule := r.mapping(node, path, "want a mapping with condition and pipelines")
	if rule == nil {
		return
	}
	trigger := Trigger{Event: event, Condition: rule.text("condition"), Line: rule.node.Line}
	names := rule.raw("pipelines")
	if names == nil {
		r.fault(rule.node, under(path, "pipelines"), "", "missing, want a list of custom pipelines")
		return
	}
	for _, item := range r.list(names, under(path, "pipelines"), "want a list of custom pipelines") {
		name := r.value(item, path)
		switch {
		case name == nil || name.Kind != yaml.ScalarNode:
			r.fault(item, under(path, "pipelines"), describe(name), "want the name of a custom pipeline")
		case f.find(Selector{Custom, name.Value}) == nil:
			r.fault(item, under(path, "pipelines"), name.Value, "want the name of a custom pipeline of this file")
		default:
			trigger.Pipelines = append(trigger.Pipelines, name.Value)
		}
	}
	f.triggers = append(f.triggers, trigger)
}

// Triggers returns the rules that start custom pipelines, in the file's order.
func (f *File) Triggers() []Trigger { return slices.Clone(f.triggers) }

// Imports returns the paths of the files of the same repository from which this file imports
// pipelines and that With has not added, sorted.
func (f *File) Imports() []string {
	paths := map[string]bool{}
	for _, d := range f.definitions {
		if _, name, ok := strings.Cut(d.imports, "@"); ok {
			if from := f.sources[name]; from.path != "" && f.imported[from.path] == nil {
				paths[from.path] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(paths))
}

// With returns the file with a file that it imports from, read from the same commit.
func (f *File) With(path string, imported *File) *File {
	with := *f
	with.imported = maps.Clone(f.imported)
	with.imported[path] = imported
	return &with
}
