package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory"
)

// Source is a configuration in a file.
type Source struct {
	// Root is the configuration's mapping, with the lines of the file.
	Root *yaml.Node
	// Notes say what had to be changed, or where the configuration was found.
	Notes []string
	// Err says why the configuration cannot be read; Root is nil then.
	Err error
}

// Find returns the only configuration in a file: the file itself, or what a ConfigMap in
// it contains. The other documents of such a file do not matter.
func Find(data []byte) (Source, error) {
	if len(data) > jobfactory.MaxInput {
		return Source{}, fmt.Errorf("configuration: %d bytes, want at most %d", len(data), jobfactory.MaxInput)
	}
	roots, fault := Documents(data)
	if fault != nil {
		if repaired, ok := repair(data); ok {
			return repaired, nil
		}
		return Source{}, fault
	}
	var found []Source
	for _, root := range roots {
		if kindOf(root) == "ConfigMap" {
			found = append(found, InConfigMap(root)...)
		}
	}
	switch {
	case len(roots) == 0:
		return Source{}, &jobfactory.ConfigError{Path: "file", Accepted: "empty, want groups, a list of at least one group"}
	case len(found) == 1:
		return found[0], found[0].Err
	case len(found) > 1:
		return Source{}, fmt.Errorf("configuration: %d ConfigMaps or keys of one have a configuration, want one", len(found))
	case len(roots) > 1:
		return Source{}, errors.New("configuration: more than one YAML document, want one")
	}
	return Source{Root: roots[0]}, nil
}

var inLine = regexp.MustCompile(`^(?:yaml: )?(?:line ([0-9]+): )?(.*)$`)

// Documents returns the documents of a YAML file that are not empty. A document with only
// comments is empty.
func Documents(data []byte) ([]*yaml.Node, *jobfactory.ConfigError) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var roots []*yaml.Node
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return roots, nil
		}
		if err != nil {
			parts := inLine.FindStringSubmatch(strings.SplitN(err.Error(), "\n", 2)[0])
			line, _ := strconv.Atoi(parts[1]) // 0 if there is none
			return nil, &jobfactory.ConfigError{Line: line, Path: "file", Accepted: "not YAML: " + parts[2]}
		}
		if len(document.Content) > 0 && given(document.Content[0]) != nil {
			roots = append(roots, document.Content[0])
		}
	}
}

// kindOf returns the kind of a Kubernetes object, "" for anything else.
func kindOf(root *yaml.Node) string {
	if kind := valueOf(root, "kind"); kind != nil {
		return kind.Value
	}
	return ""
}

// Is reports whether a document is a configuration: a mapping, but no Kubernetes object,
// with a list of groups.
func Is(root *yaml.Node) bool {
	for _, key := range []string{"groups", "config"} {
		if list := valueOf(root, key); list != nil && list.Kind == yaml.SequenceNode {
			return kindOf(root) == ""
		}
	}
	return false
}

// IsEmpty reports whether a document has a list without groups beside keys of something
// else, as the default values of the Helm chart.
func IsEmpty(root *yaml.Node) bool {
	list := valueOf(root, "groups")
	_, others := withoutOtherKeys(root)
	return Is(root) && list != nil && len(list.Content) == 0 && len(others) > 0
}

// InConfigMap returns the configurations in the data of a ConfigMap.
func InConfigMap(root *yaml.Node) []Source {
	data := valueOf(root, "data")
	if data == nil || data.Kind != yaml.MappingNode {
		return nil
	}
	var found []Source
	for i := 0; i+1 < len(data.Content); i += 2 {
		key, text := data.Content[i], data.Content[i+1]
		if text.Kind != yaml.ScalarNode || !topKey.MatchString(text.Value) {
			continue
		}
		source, err := Find([]byte(text.Value))
		if err == nil && !Is(source.Root) {
			continue // it only has a key of that name
		}
		block := text.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
		line := func(within int) int {
			if block {
				return text.Line + within
			}
			return text.Line
		}
		if err != nil {
			source.Err = moved(err, line)
		} else {
			move(source.Root, line, 0)
		}
		source.Notes = append([]string{"the configuration is the key " + key.Value + " of a ConfigMap"}, source.Notes...)
		found = append(found, source)
	}
	return found
}

var topKey = regexp.MustCompile(`(?m)^["']?(groups|config)["']?:`)

// moved returns an error about a text in a file with the file's line.
func moved(err error, line func(int) int) error {
	var f *jobfactory.ConfigError
	if errors.As(err, &f) {
		at := *f
		at.Line = line(f.Line)
		return &at
	}
	return &jobfactory.ConfigError{Line: line(0), Path: "file", Accepted: err.Error()}
}

// maxDepth bounds how deep a text within a file is.
const maxDepth = 100

// move gives nodes the lines that they have in the file around them.
func move(node *yaml.Node, line func(int) int, depth int) {
	node.Line = line(node.Line)
	for _, child := range node.Content {
		if depth < maxDepth { // aliases are not followed
			move(child, line, depth+1)
		}
	}
}

// Inside returns the path of the mapping or text below a document in which there is a
// configuration, as in the values of a Helm chart; "" if there is none.
func Inside(root *yaml.Node) string { return inside(root, 0) }

func inside(node *yaml.Node, depth int) string {
	if node.Kind != yaml.MappingNode || depth > 5 {
		return ""
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i].Value, node.Content[i+1]
		if describesGroups(value) {
			return key
		}
		if below := inside(value, depth+1); below != "" {
			return key + "." + below
		}
	}
	return ""
}

// describesGroups reports whether a value below a document is a configuration. A list of
// groups of something else has no workspaces.
func describesGroups(value *yaml.Node) bool {
	if value.Kind == yaml.ScalarNode {
		if !topKey.MatchString(value.Value) {
			return false
		}
		source, err := Find([]byte(value.Value))
		return err == nil && Is(source.Root) && hasWorkspace(source.Root)
	}
	return Is(value) && hasWorkspace(value)
}

func hasWorkspace(root *yaml.Node) bool {
	for _, key := range []string{"groups", "config"} {
		if list := valueOf(root, key); list != nil {
			for _, group := range list.Content {
				if valueOf(group, "workspace") != nil {
					return true
				}
			}
		}
	}
	return false
}

var (
	olderForm = regexp.MustCompile(`(?m)^config:`)
	misplaced = regexp.MustCompile(`(?m)^( +)constants:`)
)

// repair reads a file in the form of the README of Atlassian's runners-autoscaler, which
// indents `constants` below `config`, a list, so that the file is not YAML. It removes
// the indentation of that last block. Lines keep their numbers.
func repair(data []byte) (Source, bool) {
	at := misplaced.FindSubmatchIndex(data)
	if at == nil || !olderForm.Match(data[:at[0]]) {
		return Source{}, false
	}
	indent := data[at[2]:at[3]]
	lines := bytes.SplitAfter(data[at[0]:], []byte("\n"))
	for i, line := range lines {
		lines[i] = bytes.TrimPrefix(line, indent)
	}
	roots, fault := Documents(append(bytes.Clone(data[:at[0]]), bytes.Join(lines, nil)...))
	if fault != nil || len(roots) != 1 {
		return Source{}, false
	}
	return Source{Root: roots[0], Notes: []string{"constants is indented below config, where YAML does not allow a key; it is read as if it were not indented"}}, true
}
