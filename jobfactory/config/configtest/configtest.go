// Package configtest generates configuration files for tests. Good files have no
// fault, and bad files come with a list of their faults. The package knows the format
// of the file but not the code that reads it, so that tests can compare the two. The
// same seed gives the same bytes.
package configtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Form is one of the forms that a configuration file has.
type Form string

// The forms. Incumbent and Older are those of Atlassian's runners-autoscaler.
const (
	// Incumbent has `groups` with keys in snake_case, and only the keys that Atlassian's
	// tool knows.
	Incumbent Form = "incumbent"
	// Older has `config` with keys in camelCase, and type manual or autoscaling. Half of
	// the files also have the keys that only this project knows, in camelCase.
	Older Form = "older"
	// Full has `groups` with all keys.
	Full Form = "full"
)

// File is a configuration file.
type File struct {
	Form Form
	YAML []byte
	// Faults of the file: none, or one to four.
	Faults []Fault
}

// Fault is one fault of a file.
type Fault struct {
	// Kind in a few words, such as "unknown key".
	Kind string
	// Path of the key as the file spells it, such as config[0].nodeSelector. For an
	// unknown key it is the path of the mapping, which is "file" for the whole file.
	Path string
	// Given is what an error shows: the value, or the unknown key. It is empty if there
	// is no value, or if the error does not show it.
	Given string
}

func (f Fault) String() string { return fmt.Sprintf("%s at %s (%s)", f.Kind, f.Path, f.Given) }

// Good returns a file without a fault.
func Good(seed uint64) File {
	d := newDraft(seed)
	return d.file(nil)
}

// Bad returns the file of Good with one to four faults.
func Bad(seed uint64) File {
	d := newDraft(seed)
	return d.file(d.spoil())
}

type object = map[string]any

// draft is a file before it is written. Its keys are in snake_case.
type draft struct {
	*source
	form   Form
	top    object
	groups []object
}

func newDraft(seed uint64) *draft {
	s := &source{rand.New(rand.NewPCG(seed, 0x5eed))} //nolint:gosec // it has to be predictable
	d := &draft{source: s, form: []Form{Incumbent, Older, Full}[s.IntN(3)], top: object{}}
	if s.chance(2) {
		d.top["constants"] = s.some(constants, 2)
	}
	extended := d.form == Full || d.form == Older && s.chance(2)
	for i := range s.between(1, 3) {
		d.groups = append(d.groups, s.group(i, d.form, extended))
	}
	return d
}

// list returns the key of the list of groups.
func (d *draft) list() string {
	if d.form == Older {
		return "config"
	}
	return "groups"
}

func (d *draft) file(faults []Fault) File {
	if _, emptied := d.top[d.list()]; !emptied {
		d.top[d.list()] = d.groups
	}
	if d.form == Older {
		for _, group := range d.groups {
			respell(group)
		}
		for i := range faults {
			faults[i].Path = respelled(faults[i].Path)
		}
	}
	data, err := yaml.Marshal(d.top)
	if err != nil {
		panic(err) // cannot happen with maps, lists, strings and numbers
	}
	return File{Form: d.form, YAML: data, Faults: faults}
}

// mappings are the keys whose values have the file's own keys, rather than a user's or
// Kubernetes' keys.
var mappings = []string{"parameters", "resources", "docker_resources", "images", "proxy"}

// inSnake are the keys that are in snake_case in the older form too.
var inSnake = []string{"runners_count"}

func respell(keys object) {
	for key, value := range keys {
		if inner, ok := value.(object); ok && slices.Contains(mappings, key) {
			respell(inner)
		}
		if name := camel(key); name != key {
			if _, both := keys[name]; !both { // a key that is given twice would be another fault
				delete(keys, key)
				keys[name] = value
			}
		}
	}
}

// respelled returns a path after respell.
func respelled(path string) string {
	if !strings.HasPrefix(path, "config[") {
		return path // respell only changes groups
	}
	steps := strings.Split(path, ".")
	for i, step := range steps {
		key, index, listed := strings.Cut(step, "[")
		steps[i] = camel(key)
		if listed {
			steps[i] += "[" + index
		}
		if i > 0 && !slices.Contains(mappings, key) {
			break // the keys below are not the file's own
		}
	}
	return strings.Join(steps, ".")
}

func camel(key string) string {
	if slices.Contains(inSnake, key) {
		return key
	}
	words := strings.Split(key, "_")
	for i, word := range words[1:] {
		if word != "" {
			words[i+1] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, "")
}
