package pipelines

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// MaxSize is the size in bytes above which a file is refused.
	MaxSize = 1 << 20
	// maxDepth bounds how deep lists and mappings may be nested.
	maxDepth = 100

	keyTwice    = "the key is given twice, want it once"
	anchorTwice = "the anchor is defined twice, want it once"
)

// document is a parsed YAML document and what is ambiguous in it.
type document struct {
	root *yaml.Node
	// twice has, for each mapping, the keys that it has more than once.
	twice map[*yaml.Node]map[string]bool
	// anchors counts the definitions of each anchor.
	anchors map[string]int
}

// parse reads the only document of a file. It reports repeated keys and anchors as faults; a
// file with other faults of YAML has no document.
func parse(data []byte, found *faults) (document, bool) {
	d := document{twice: map[*yaml.Node]map[string]bool{}, anchors: map[string]int{}}
	if len(data) > MaxSize {
		found.add(&FileError{Want: fmt.Sprintf("the file has %d bytes, want at most %d", len(data), MaxSize)})
		return d, false
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var first, further yaml.Node
	switch err := decoder.Decode(&first); {
	case errors.Is(err, io.EOF) || err == nil && len(first.Content) == 0:
		found.add(&FileError{Path: "pipelines", Want: "missing, want at least one pipeline"})
		return d, false
	case err != nil:
		found.add(syntaxFault(data, err))
		return d, false
	}
	switch err := decoder.Decode(&further); {
	case errors.Is(err, io.EOF):
	case err != nil:
		found.add(syntaxFault(data, err))
		return d, false
	default:
		found.add(&FileError{Line: further.Line, Want: "a second YAML document, want one"})
		return d, false
	}
	d.root = first.Content[0]
	return d, d.inspect(d.root, 1, found)
}

var (
	errorLine     = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxFault describes an error of the YAML library, with the line, which the library does
// not know for an alias without anchor.
func syntaxFault(data []byte, err error) *FileError {
	fault := &FileError{Want: "not YAML: " + err.Error()}
	match := errorLine.FindStringSubmatch(err.Error())
	if match == nil {
		return fault
	}
	fault.Line, _ = strconv.Atoi(match[1])
	fault.Want = "not YAML: " + match[2]
	if alias := unknownAnchor.FindStringSubmatch(match[2]); alias != nil {
		fault.Given, fault.Want = "*"+alias[1], "want an anchor &"+alias[1]+" above the alias"
		outsideComments := regexp.MustCompile(`(?m)^[^#\n]*\*` + regexp.QuoteMeta(alias[1]) + `(?:[\s,\]}]|\z)`)
		if at := outsideComments.FindIndex(data); at != nil {
			fault.Line = bytes.Count(data[:at[0]], []byte("\n")) + 1
		}
	}
	return fault
}

// inspect looks at each node once, without following aliases. It reports whether the document
// can be read at all.
func (d *document) inspect(node *yaml.Node, depth int, found *faults) bool {
	if depth > maxDepth {
		found.add(&FileError{Line: node.Line, Want: fmt.Sprintf("nested too deeply, want at most %d levels", maxDepth)})
		return false
	}
	if node.Anchor != "" {
		if d.anchors[node.Anchor]++; d.anchors[node.Anchor] > 1 {
			found.add(&FileError{Line: node.Line, Given: "&" + shorten(node.Anchor), Want: anchorTwice})
		}
	}
	if node.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode || isMerge(key) {
				continue // only keys that are read matter
			}
			if seen[key.Value] {
				if d.twice[node] == nil {
					d.twice[node] = map[string]bool{}
				}
				d.twice[node][key.Value] = true
				found.add(&FileError{Line: key.Line, Given: shorten(key.Value), Want: keyTwice})
			}
			seen[key.Value] = true
		}
	}
	for _, child := range node.Content {
		if !d.inspect(child, depth+1, found) {
			return false
		}
	}
	return true
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge"
}

// shorten bounds what a fault shows of a value.
func shorten(text string) string {
	const longest = 60
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}
