package pipelines

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxReads bounds the nodes that are read through aliases, so that a small file does not
	// become a large one.
	maxReads = 1_000_000
	// maxMerges bounds how deep mappings may be merged into each other.
	maxMerges = 20
)

// reader reads the values of a document. It remembers the first fault since reset, which makes
// unknown whatever was read from there.
type reader struct {
	document
	faults
	reads int
	// broken is the first fault since it was last reset, and count that of all faults.
	broken *FileError
	count  int
}

// fault reports a fault of a node.
func (r *reader) fault(node *yaml.Node, path, given, want string) {
	fault := &FileError{Path: path, Given: shorten(given), Want: want}
	if node != nil {
		fault.Line = node.Line
	}
	r.add(fault)
	r.mark(fault)
}

// mark makes unknown what is read, because of a fault that is reported already.
func (r *reader) mark(fault *FileError) {
	r.count++
	if r.broken == nil {
		r.broken = fault
	}
}

const tooLarge = "the file is too large once its aliases are replaced"

// twiceGiven is the alias that stands for the value of a key that is given twice.
const twiceGiven = "\x00twice"

// value returns the node to which an alias refers, and nil for null.
func (r *reader) value(node *yaml.Node, path string) *yaml.Node {
	if node == nil {
		return nil
	}
	if r.reads++; r.reads > maxReads {
		r.fault(nil, "", "", tooLarge)
		return nil
	}
	if node.Kind == yaml.AliasNode {
		if node.Value == twiceGiven {
			r.mark(&FileError{Line: node.Line, Path: path, Want: keyTwice})
			return nil
		}
		if r.anchors[node.Value] > 1 {
			r.mark(&FileError{Line: node.Line, Path: path, Given: "*" + shorten(node.Value), Want: anchorTwice})
			return nil
		}
		node = node.Alias
	}
	if isNull(node) {
		return nil
	}
	return node
}

// describe returns what a fault shows of a value.
func describe(node *yaml.Node) string {
	switch {
	case node == nil:
		return ""
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	}
	return node.Value
}

// list reads a list. It returns nil for anything else.
func (r *reader) list(node *yaml.Node, path, want string) []*yaml.Node {
	before := r.count
	given := r.value(node, path)
	if given == nil || given.Kind != yaml.SequenceNode {
		if r.count == before {
			r.fault(node, path, describe(given), want)
		}
		return nil
	}
	return given.Content
}

// entry is a key of a mapping and its value.
type entry struct {
	key   *yaml.Node
	value *yaml.Node
}

// mapping is a mapping with the keys that it merges.
type mapping struct {
	reader  *reader
	node    *yaml.Node
	path    string
	entries []entry
	index   map[string]int
}

// mapping reads a mapping. Its own keys take precedence over merged ones, and those merged
// first over later ones. It returns nil for anything else.
func (r *reader) mapping(node *yaml.Node, path, want string) *mapping {
	before := r.count
	given := r.value(node, path)
	if given == nil || given.Kind != yaml.MappingNode {
		if r.count == before {
			r.fault(node, path, describe(given), want)
		}
		return nil
	}
	m := &mapping{reader: r, node: given, path: path, index: map[string]int{}}
	m.collect(given, 0)
	return m
}

func (m *mapping) collect(node *yaml.Node, depth int) {
	if depth > maxMerges {
		m.reader.fault(node, m.path, "", fmt.Sprintf("merged too deeply, want at most %d levels", maxMerges))
		return
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if m.reader.reads++; m.reader.reads > maxReads {
			m.reader.fault(nil, "", "", tooLarge)
			return
		}
		switch {
		case isMerge(key):
			merged = append(merged, value)
		case key.Kind != yaml.ScalarNode:
			m.reader.fault(key, m.path, describe(key), "want plain keys")
		default:
			if m.has(key.Value) {
				continue
			}
			if m.reader.twice[node][key.Value] {
				value = &yaml.Node{Kind: yaml.AliasNode, Line: key.Line, Value: twiceGiven}
			}
			m.index[key.Value] = len(m.entries)
			m.entries = append(m.entries, entry{key, value})
		}
	}
	for _, source := range merged {
		sources := []*yaml.Node{source}
		if list := m.reader.value(source, m.path); list != nil && list.Kind == yaml.SequenceNode {
			sources = list.Content
		}
		for _, source := range sources {
			from := m.reader.value(source, m.path)
			if from == nil || from.Kind != yaml.MappingNode {
				m.reader.fault(source, m.path, describe(from), "want a mapping to merge, or a list of them")
				continue
			}
			m.collect(from, depth+1)
		}
	}
}

// get returns the value of a key; nil if it is not given, null, or given twice, which it
// reports.
func (m *mapping) get(key string) *yaml.Node {
	if m == nil {
		return nil
	}
	return m.reader.value(m.raw(key), under(m.path, key))
}

// all returns the keys with their values as written, in the order of the file.
func (m *mapping) all() iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		if m == nil {
			return
		}
		for _, e := range m.entries {
			if !yield(e.key.Value, e.value) {
				return
			}
		}
	}
}

// has reports whether a key is given, even as null.
func (m *mapping) has(key string) bool {
	if m == nil {
		return false
	}
	_, ok := m.index[key]
	return ok
}

// raw returns the value of a key as it is written; nil if it is not given.
func (m *mapping) raw(key string) *yaml.Node {
	if !m.has(key) {
		return nil
	}
	return m.entries[m.index[key]].value
}

// isNull reports whether a value is absent or null.
func isNull(node *yaml.Node) bool {
	if node != nil && node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	return node == nil || node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func under(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// text returns a plain value as it is written.
func (m *mapping) text(key string) string {
	node := m.get(key)
	if node == nil {
		return ""
	}
	if node.Kind != yaml.ScalarNode {
		m.reader.fault(node, under(m.path, key), describe(node), "want one value")
		return ""
	}
	return node.Value
}

// word returns a value that must be one of the given words; the first stands for nothing.
func (m *mapping) word(key string, accepted ...string) string {
	given := m.text(key)
	if given != "" && !slices.Contains(accepted, given) {
		m.reader.fault(m.get(key), under(m.path, key), given, "want "+strings.Join(accepted, " or "))
		return ""
	}
	return given
}

// boolean returns a value that must be true or false, and whether it is given.
func (m *mapping) boolean(key string) (value, given bool) {
	node := m.get(key)
	if node == nil {
		return false, false
	}
	var decoded bool
	if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!bool" || node.Decode(&decoded) != nil {
		m.reader.fault(node, under(m.path, key), describe(node), "want true or false")
		return false, false
	}
	return decoded, true
}

// number returns a whole number, or the default if there is none.
func (m *mapping) number(key string, otherwise int) int {
	given := m.text(key)
	if given == "" {
		return otherwise
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 0 {
		m.reader.fault(m.get(key), under(m.path, key), given, "want a whole number")
		return otherwise
	}
	return n
}
