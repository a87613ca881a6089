package jobfactory

import (
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// blame gathers what is wrong with a file. It knows which values could not be
// read, so that nobody is told that they are missing as well.
type blame struct {
	faults []*ConfigError
	// unread are the paths of values that were refused, holed those of lists in
	// which an item was.
	unread, holed map[string]bool
	// written has the file's own spelling of a path whose last key it spells in
	// another way.
	written map[string]string
}

// add blames a value.
func (b *blame) add(node *yaml.Node, path, given, accepted string) {
	b.key(node, path, given, accepted)
	b.refuse(path)
}

// key blames a key that stands in the mapping at path; what else stands there is read.
func (b *blame) key(node *yaml.Node, path, given, accepted string) {
	f := fault(path, given, accepted)
	f.Line = node.Line
	b.faults = append(b.faults, f)
}

// missing blames a mapping for what does not stand in it.
func (b *blame) missing(parent *yaml.Node, path, accepted string) {
	if !b.follows(path) {
		b.faults = append(b.faults, &ConfigError{Line: parent.Line, Path: path, Accepted: "missing, want " + accepted})
		b.refuse(path)
	}
}

func (b *blame) refuse(path string) {
	if b.unread == nil {
		b.unread, b.holed = map[string]bool{}, map[string]bool{}
	}
	b.unread[path] = true
	if list := strings.LastIndexByte(path, '['); list >= 0 && strings.HasSuffix(path, "]") {
		b.holed[path[:list]] = true
	}
}

// follows says whether a fault at the path only follows from one that was told: of
// the value itself, of what it stands in, or of one of its items.
func (b *blame) follows(path string) bool {
	if b.holed[path] {
		return true
	}
	for path != "" {
		if b.unread[path] {
			return true
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return false
}

// adopt takes over faults of a group, or of its trigger, with the file's paths
// and lines. at finds the node of a key, nil for none.
func (b *blame) adopt(faults []*ConfigError, path string, group *yaml.Node, at func(key string) *yaml.Node) {
	for _, f := range faults {
		inFile := path + "." + f.Path
		if b.follows(inFile) || strings.HasSuffix(f.Path, "].name") && strings.Contains(f.Path, "volume_mounts[") && b.follows(path+".volumes") {
			continue
		}
		line := group.Line
		if node := at(f.Path); node != nil {
			line = node.Line
		}
		b.faults = append(b.faults, &ConfigError{Line: line, Path: inFile, Given: f.Given, Accepted: f.Accepted})
	}
}

// spell remembers how the file spells the last key of a path.
func (b *blame) spell(path, key string) {
	if path != key && !strings.HasSuffix(path, "."+key) {
		if b.written == nil {
			b.written = map[string]string{}
		}
		b.written[path] = key
	}
}

// spelled is a path with its keys as the file spells them.
func (b *blame) spelled(path string) string {
	if len(b.written) == 0 {
		return path
	}
	keys := strings.Split(path, ".")
	spelled := slices.Clone(keys)
	for i := range keys {
		key, index, _ := strings.Cut(keys[i], "[")
		known := strings.Join(append(slices.Clone(keys[:i]), key), ".")
		if written, ok := b.written[known]; ok {
			spelled[i] = written
			if index != "" {
				spelled[i] += "[" + index
			}
		}
	}
	return strings.Join(spelled, ".")
}

// err joins the faults in the order of lines.
func (b *blame) err() error {
	slices.SortStableFunc(b.faults, func(x, y *ConfigError) int { return x.Line - y.Line })
	errs := make([]error, len(b.faults))
	for i, f := range b.faults {
		f.Path = b.spelled(f.Path)
		errs[i] = f
	}
	return errors.Join(errs...)
}

// configErrors are the faults that Validate joins.
func configErrors(errs []error) []*ConfigError {
	faults := make([]*ConfigError, 0, len(errs))
	for _, err := range errs {
		var f *ConfigError
		if errors.As(err, &f) {
			faults = append(faults, f)
		}
	}
	return faults
}
