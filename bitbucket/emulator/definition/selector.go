package definition

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/bitbucket/emulator/condition"
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
	Default      *list    `yaml:"default"`
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
	return patterns{}
}

// refs are the types of selectors by the type of a ref.
var refs = map[string]string{
	"": SelectDefault, "branch": SelectBranches, "named_branch": SelectBranches, "tag": SelectTags,
	"bookmark": SelectBookmarks, "pullrequest": SelectPullRequests,
}

// find returns what the file defines for a selector, or for a ref: the pattern that decides, or
// for branches and bookmarks the default.
func (s sections) find(want Wanted) (Selector, *list) {
	selector := want.Selector
	if selector.Type == "" {
		selector.Type = refs[want.RefType]
		section := s.of(selector.Type)
		if i := condition.Best(section.names, want.RefName); i >= 0 {
			return Selector{selector.Type, section.names[i]}, &section.lists[i]
		}
		if selector.Type == SelectBranches || selector.Type == SelectBookmarks {
			selector.Type = SelectDefault
		}
	}
	if selector.Type == SelectDefault {
		return Selector{Type: SelectDefault}, s.Default
	}
	section := s.of(selector.Type)
	for i, name := range section.names {
		if name == selector.Pattern {
			return selector, &section.lists[i]
		}
	}
	return Selector{}, nil
}

// patterns are the pipelines of a section, in the order of the file.
type patterns struct {
	names []string
	lists []list
}

// UnmarshalYAML keeps the order of the file. What is merged comes last.
func (p *patterns) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want a mapping of patterns", node.Line)
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.ShortTag() == "!!merge" && value.Kind == yaml.SequenceNode:
			merged = append(merged, value.Content...)
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case !slices.Contains(p.names, key.Value):
			var l list
			if err := value.Decode(&l); err != nil {
				return err
			}
			p.names, p.lists = append(p.names, key.Value), append(p.lists, l)
		}
	}
	for _, from := range merged {
		if err := p.UnmarshalYAML(from); err != nil {
			return err
		}
	}
	return nil
}
