package definition

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FileName is the file that Bitbucket reads.
const FileName = "bitbucket-pipelines.yml"

// File is a bitbucket-pipelines.yml.
type File struct {
	document document
	files    Files
}

// Parse reads a file. What it imports is read from files, which may be nil, when it is needed.
func Parse(data []byte, files Files) (*File, error) {
	f := &File{files: files}
	var err error
	if f.document, err = decode(data); err != nil {
		return nil, fmt.Errorf("%s: %w", FileName, err)
	}
	return f, nil
}

func decode(data []byte) (d document, err error) {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return d, err
	}
	joinMerges(&root)
	return d, root.Decode(&d)
}

// joinMerges makes one merge of several in a mapping. The library refuses the second one as a key
// that is given twice, but Bitbucket accepts it.
func joinMerges(node *yaml.Node) {
	var merge *yaml.Node
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.ShortTag() != "!!merge":
		case merge == nil:
			merge = value
			if value.Kind != yaml.SequenceNode {
				merge = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{value}}
				node.Content[i+1] = merge
			}
		default:
			if value.Kind != yaml.SequenceNode {
				value = &yaml.Node{Content: []*yaml.Node{value}}
			}
			merge.Content = append(merge.Content, value.Content...)
			node.Content = slices.Delete(node.Content, i, i+2)
			i -= 2
		}
	}
	for _, below := range node.Content {
		joinMerges(below)
	}
}

// Pipeline returns the pipeline that the file defines for a selector or a ref. Without one the
// error is ErrNoPipeline.
func (f *File) Pipeline(want Wanted) (Pipeline, error) {
	selector, found := f.document.Pipelines.find(want)
	if found == nil {
		return Pipeline{}, ErrNoPipeline
	}
	options := f.document.Options.RunsOn
	if found.imports != "" {
		from, items, err := f.imported(found.imports)
		if err != nil {
			return Pipeline{Selector: selector}, fmt.Errorf("%s: import %s: %w", FileName, found.imports, err)
		}
		if options == nil { // whose options count is not documented
			options = from.Options.RunsOn
		}
		found = &list{items: items}
	}
	p, err := build(found.items, options)
	p.Selector = selector
	if err != nil {
		return p, fmt.Errorf("%s: %w", FileName, err)
	}
	return p, nil
}

// imported returns the pipeline that another file exports, given as name@source with the source
// in definitions.imports, or as repository:ref:name.
func (f *File) imported(from string) (document, []item, error) {
	repository, path := "", FileName
	name, source, named := strings.Cut(from, "@")
	ref := ""
	if named {
		given, ok := f.document.Definitions.Imports[source]
		if !ok {
			return document{}, nil, fmt.Errorf("definitions.imports has no %s", source)
		}
		if other, at, elsewhere := strings.Cut(given, ":"); elsewhere {
			repository, ref = other, at
		} else {
			path = strings.TrimPrefix(given, "./")
		}
	} else {
		parts := strings.SplitN(from, ":", 3)
		if len(parts) < 3 {
			return document{}, nil, fmt.Errorf("want name@source or repository:ref:name")
		}
		repository, ref, name = parts[0], parts[1], parts[2]
	}
	if f.files == nil {
		return document{}, nil, fmt.Errorf("no file %s", path)
	}
	data, ok := f.files.Read(repository, ref, path)
	if !ok {
		return document{}, nil, fmt.Errorf("no file %s", path)
	}
	other, err := decode(data)
	if err != nil {
		return document{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	exported, ok := other.Definitions.Pipelines[name]
	if !ok || exported.imports != "" {
		return document{}, nil, fmt.Errorf("%s has no pipeline %s under definitions.pipelines", path, name)
	}
	return other, exported.items, nil
}

// Triggered returns the custom pipelines that the rules of an event start, in order of the file.
// holds decides about the condition of a rule.
func (f *File) Triggered(event string, holds func(condition string) bool) []Selector {
	var started []Selector
	for _, rule := range f.document.Triggers[event] {
		if rule.Condition != "" && !holds(rule.Condition) {
			continue
		}
		for _, name := range rule.Pipelines {
			started = append(started, Selector{SelectCustom, name})
		}
	}
	return started
}
