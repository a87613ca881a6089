// Package fields is the parameter `fields` of Bitbucket's API, with which a caller asks for
// parts of an answer. Names with dots are paths, which pass through lists. With a name only
// what is named is shown, and a name with - is hidden. A name with + adds what is hidden by
// default, of which the emulator has nothing.
package fields

import (
	"encoding/json"
	"strings"
)

// Apply returns the parts of a JSON body that the parameter asks for.
func Apply(body []byte, parameter string) (any, error) {
	shown, hidden := tree{}, tree{}
	for name := range strings.SplitSeq(parameter, ",") {
		switch path := strings.TrimSpace(name); {
		case path == "" || path[0] == '+':
		case path[0] == '-':
			hidden.add(strings.Split(path[1:], "."))
		default:
			shown.add(strings.Split(path, "."))
		}
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return nil, err
	}
	return hidden.without(shown.only(value)), nil
}

// tree is a set of paths. A nil or empty subtree, or one with *, is all of an object.
type tree map[string]tree

func (t tree) add(path []string) {
	if len(path) == 0 {
		return
	}
	if t[path[0]] == nil {
		t[path[0]] = tree{}
	}
	t[path[0]].add(path[1:])
}

// only returns the parts of an object that are in the tree.
func (t tree) only(body any) any {
	if _, all := t["*"]; all || len(t) == 0 {
		return body
	}
	switch body := body.(type) {
	case []any:
		for i := range body {
			body[i] = t.only(body[i])
		}
		return body
	case map[string]any:
		kept := map[string]any{}
		for name, below := range t {
			if value, ok := body[name]; ok {
				kept[name] = below.only(value)
			}
		}
		return kept
	}
	return body
}

// without returns an object without the parts that are in the tree.
func (t tree) without(body any) any {
	switch body := body.(type) {
	case []any:
		for i := range body {
			body[i] = t.without(body[i])
		}
	case map[string]any:
		for name, below := range t {
			if value, ok := body[name]; ok && len(below) > 0 {
				body[name] = below.without(value)
			} else {
				delete(body, name)
			}
		}
	}
	return body
}
