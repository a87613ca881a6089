// Package configgen makes configuration files for tests, good ones and bad ones,
// and says of the bad ones what is wrong with them. It knows the file's form and
// nothing of the code that reads it, so that each can be held against the other.
// The same seed gives the same bytes.
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

// The forms, of which the first two are those of Atlassian's runners-autoscaler.
const (
	// Incumbent has groups with keys in snake_case, and only those that Atlassian's has.
	Incumbent Form = "incumbent"
	// Older has config with keys in camelCase, and type manual or autoscaling; half
	// of the files have our own keys too, spelled in its way.
	Older Form = "older"
	// Ours has groups with every key there is.
	Ours Form = "ours"
)

// File is a configuration file.
type File struct {
	Form Form
	YAML []byte
	// Faults are all that is wrong with it: none, or one to four.
	Faults []Fault
}

// Fault is one thing that is wrong with a file.
type Fault struct {
	// Kind in a few words, such as "unknown key".
	Kind string
	// Path of the key with the file's own spelling, such as config[0].nodeSelector;
	// for an unknown key that of the mapping that it stands in, "file" for the whole.
	Path string
	// Given is what an error shows of the value, or the unknown key. Empty: nothing
	// stands there, or it is shown in another way.
	Given string
}

func (f Fault) String() string { return fmt.Sprintf("%s at %s (%s)", f.Kind, f.Path, f.Given) }

// Good is a file without a fault.
func Good(seed uint64) File {
	d := newDraft(seed)
	return d.file(nil)
}

// Bad is the same seed's file with one to four faults.
func Bad(seed uint64) File {
	d := newDraft(seed)
	return d.file(d.spoil())
}

type object = map[string]any

// draft is a file in the making: with keys in snake_case until it is written.
type draft struct {
	*source
	form   Form
	top    object
	groups []object
}

func newDraft(seed uint64) *draft {
	s := &source{rand.New(rand.NewPCG(seed, 0x5eed))} //nolint:gosec // it has to be predictable
	d := &draft{source: s, form: []Form{Incumbent, Older, Ours}[s.IntN(3)], top: object{}}
	if s.chance(2) {
		d.top["constants"] = s.some(constants, 2)
	}
	extended := d.form == Ours || d.form == Older && s.chance(2)
	for i := range s.between(1, 3) {
		d.groups = append(d.groups, s.group(i, d.form, extended))
	}
	return d
}

// list is the key that the groups stand under.
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
		panic(err) // maps, lists, texts and numbers
	}
	return File{Form: d.form, YAML: data, Faults: faults}
}

// mappings are the keys below which the keys are ours, not the user's or
// Kubernetes'.
var mappings = []string{"parameters", "resources", "docker_resources", "images", "proxy"}

// inSnake are the keys that the older form has in snake_case.
var inSnake = []string{"runners_count"}

func respell(keys object) {
	for key, value := range keys {
		if inner, ok := value.(object); ok && slices.Contains(mappings, key) {
			respell(inner)
		}
		if name := camel(key); name != key {
			if _, both := keys[name]; !both { // given twice is a fault of its own
				delete(keys, key)
				keys[name] = value
			}
		}
	}
}

// respelled is a path as respell leaves it.
func respelled(path string) string {
	if !strings.HasPrefix(path, "config[") {
		return path // outside of the groups nothing is spelled anew
	}
	steps := strings.Split(path, ".")
	for i, step := range steps {
		key, index, listed := strings.Cut(step, "[")
		steps[i] = camel(key)
		if listed {
			steps[i] += "[" + index
		}
		if i > 0 && !slices.Contains(mappings, key) {
			break // below it nothing is ours
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
