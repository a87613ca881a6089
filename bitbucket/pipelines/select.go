package pipelines

import (
	"fmt"
	"slices"
	"strings"
)

// The types of selectors, as the API names them.
const (
	Default      = "default"
	Branches     = "branches"
	Tags         = "tags"
	Bookmarks    = "bookmarks"
	PullRequests = "pull-requests"
	Custom       = "custom"
)

// Selector names one pipeline of a file, as target.selector does in the API. The pipelines that
// a trigger starts have custom selectors.
type Selector struct {
	// Type is one of the types of selectors.
	Type string
	// Pattern is the pattern or name in the file; empty for the default pipeline.
	Pattern string
}

// String returns the selector as type:pattern.
func (s Selector) String() string {
	if s.Pattern == "" {
		return s.Type
	}
	return s.Type + ":" + s.Pattern
}

// ParseSelector reads TYPE or TYPE:PATTERN. The type may be in capitals, and with an underscore
// for the dash.
func ParseSelector(given string) (Selector, error) {
	kind, pattern, _ := strings.Cut(given, ":")
	kind = strings.ReplaceAll(strings.ToLower(kind), "_", "-")
	types := append([]string{Default}, sections...)
	switch {
	case !slices.Contains(types, kind):
		return Selector{}, fmt.Errorf("%q, want one of %s, and for all but %s a colon and a pattern or name", given, strings.Join(types, ", "), Default)
	case kind == Default:
		pattern = ""
	case pattern == "":
		return Selector{}, fmt.Errorf("%q, want %s:PATTERN", given, kind)
	}
	return Selector{Type: kind, Pattern: pattern}, nil
}

// Selectors returns the selectors of the file's pipelines, in the file's order.
func (f *File) Selectors() []Selector {
	selectors := make([]Selector, len(f.definitions))
	for i, d := range f.definitions {
		selectors[i] = d.pipeline.Selector
	}
	return selectors
}

// find returns the definition of a selector; nil if there is none.
func (f *File) find(selector Selector) *definition {
	for i := range f.definitions {
		if f.definitions[i].pipeline.Selector == selector {
			return &f.definitions[i]
		}
	}
	return nil
}

// Select returns the pipeline that a selector names. The pipeline is unknown, with the reason,
// if the file has none of that name, if it is faulty, or if it is imported and the file that
// has it is not there.
func (f *File) Select(selector Selector) Pipeline {
	if selector.Type == Default {
		selector.Pattern = ""
	}
	d := f.find(selector)
	if d == nil {
		return Pipeline{Selector: selector, Unknown: fmt.Sprintf("the file has no pipeline %s", selector)}
	}
	pipeline := d.pipeline
	if d.imports != "" {
		pipeline = f.follow(d.imports)
		pipeline.Selector = selector
	}
	return pipeline
}

// follow returns an imported pipeline.
func (f *File) follow(imports string) Pipeline {
	unknown := func(format string, args ...any) Pipeline {
		return Pipeline{Unknown: fmt.Sprintf("import %s: ", shorten(imports)) + fmt.Sprintf(format, args...)}
	}
	name, from, named := strings.Cut(imports, "@")
	if !named {
		return unknown("it is in another repository")
	}
	at, ok := f.sources[from]
	switch {
	case !ok:
		return unknown("definitions.imports has no %s", shorten(from))
	case at.elsewhere != "":
		return unknown("%s", at.elsewhere)
	}
	imported := f.imported[at.path]
	if imported == nil {
		return unknown("the file %s has not been read", at.path)
	}
	d, ok := imported.exports[name]
	switch {
	case !ok:
		return unknown("%s has no pipeline %s under definitions.pipelines", at.path, shorten(name))
	case d.imports != "":
		return unknown("%s imports it too", at.path)
	}
	pipeline := d.pipeline
	if f.options.unknown != imported.options.unknown || !slices.Equal(f.options.names, imported.options.names) {
		pipeline.Steps = withoutDefaults(pipeline.Steps, at.path)
	}
	return pipeline
}

// withoutDefaults makes unknown the labels of steps without a runs-on of their own: nothing
// says whose options they get.
func withoutDefaults(steps []Step, path string) []Step {
	steps = slices.Clone(steps)
	for i := range steps {
		if !steps[i].ownLabels && !steps[i].Child {
			steps[i].Labels = nil
			steps[i].Unknown = fmt.Sprintf("this file and %s have different options.runs-on", path)
		}
	}
	return steps
}

// For returns the selector of the pipeline that Bitbucket starts for a branch (or bookmark), a
// tag, or the source branch of a pull request: the exact name, or else the most specific
// pattern that matches, or else, for branches and bookmarks, the default pipeline. It reports
// false if none starts. The API's own selector, if there is one, decides; triggers start
// further pipelines.
func (f *File) For(kind, name string) (Selector, bool) {
	var best glob
	found := false
	for _, d := range f.definitions {
		selector := d.pipeline.Selector
		if selector.Type != kind || kind == Custom || kind == Default {
			continue
		}
		if g := newGlob(selector.Pattern); g.matches(name) && (!found || g.beats(best, name)) {
			best, found = g, true
		}
	}
	if found {
		return Selector{kind, best.name}, true
	}
	fallback := Selector{Type: Default}
	exact := Selector{kind, name}
	switch kind {
	case Custom:
		return exact, f.find(exact) != nil
	case Default, Branches, Bookmarks:
		return fallback, f.find(fallback) != nil
	}
	return Selector{}, false
}
