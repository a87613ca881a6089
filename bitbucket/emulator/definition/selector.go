package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The types of selectors.
const (
	SelectDefault      = "default"
	SelectBranches     = "branches"
	SelectTags         = "tags"
	SelectBookmarks    = "bookmarks"
	SelectPullRequests = "pull-requests"
	SelectCustom       = "custom"
)

// Selector names a pipeline of a file. Pattern is empty for the default.
type Selector struct {
	Type    string `json:"type"`
	Pattern string `json:"pattern,omitempty"`
}

// Wanted says which pipeline of a file to use.
type Wanted struct {
	// Selector names the pipeline. Without a type, the ref decides.
	Selector Selector
	// RefType is branch, named_branch, tag, bookmark or, for the source branch of a pull
	// request, pullrequest. Empty means that there is no ref.
	RefType, RefName string
}

// sections are the lists of pipelines of a file.
type sections struct {
	Default      list     `yaml:"default"`
	Branches     patterns `yaml:"branches"`
	Tags         patterns `yaml:"tags"`
	Bookmarks    patterns `yaml:"bookmarks"`
	PullRequests patterns `yaml:"pull-requests"`
	Custom       patterns `yaml:"custom"`
}

// of returns the section of a type of selector.
func (s sections) of(selector string) patterns {
	switch selector {
	case SelectBranches:
		return s.Branches
	case SelectTags:
		return s.Tags
	case SelectBookmarks:
		return s.Bookmarks
	case SelectPullRequests:
		return s.PullRequests
	case SelectCustom:
		return s.Custom
	}
	return nil
}

// find returns what the file defines for a selector, or for a ref: the first pattern that
// matches, or for branches the default.
func (s sections) find(want Wanted) (Selector, list, bool) {
	selector := want.Selector
	if selector.Type == "" {
		selector.Type = map[string]string{
			"tag": SelectTags, "bookmark": SelectBookmarks, "pullrequest": SelectPullRequests, "": SelectDefault,
		}[want.RefType]
		if selector.Type == "" {
			selector.Type = SelectBranches
		}
		for _, p := range s.of(selector.Type) {
			if matches(p.pattern, want.RefName) {
				return Selector{selector.Type, p.pattern}, p.items, true
			}
		}
		if selector.Type == SelectBranches {
			selector.Type = SelectDefault
		}
	}
	if selector.Type == SelectDefault {
		return Selector{Type: SelectDefault}, s.Default, len(s.Default) > 0
	}
	for _, p := range s.of(selector.Type) {
		if p.pattern == selector.Pattern {
			return selector, p.items, true
		}
	}
	return Selector{}, nil, false
}

// matches reports whether a pattern of a file matches a name. * does not match slashes, **
// does, and {a,b} matches either.
func matches(pattern, name string) bool {
	expression := regexp.QuoteMeta(pattern)
	for from, to := range map[string]string{`\{`: "(", `\}`: ")", `,`: "|"} {
		if strings.Contains(pattern, "{") {
			expression = strings.ReplaceAll(expression, from, to)
		}
	}
	expression = strings.ReplaceAll(expression, `\*\*`, "\x00")
	expression = strings.ReplaceAll(expression, `\*`, "[^/]*")
	expression = strings.ReplaceAll(expression, "\x00", ".*")
	compiled, err := regexp.Compile("^" + expression + "$")
	return err == nil && compiled.MatchString(name)
}

// patterns are the pipelines of a section, in the order of the file.
type patterns []struct {
	pattern string
	items   list
}

// UnmarshalYAML keeps the order of the file.
func (p *patterns) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want a mapping of patterns", node.Line)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		entry := struct {
			pattern string
			items   list
		}{pattern: node.Content[i].Value}
		if err := node.Content[i+1].Decode(&entry.items); err != nil {
			return err
		}
		*p = append(*p, entry)
	}
	return nil
}

// list is a pipeline's list.
type list []item

// UnmarshalYAML refuses a pipeline that is defined elsewhere.
func (l *list) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.SequenceNode {
		return errors.New("the emulator reads only pipelines that are lists, no imports")
	}
	return node.Decode((*[]item)(l))
}
