package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory"
)

// faultCollector collects the faults of a file. It remembers which values could not
// be read, so that it does not report their consequences as well.
type faultCollector struct {
	faults []*jobfactory.ConfigError
	// unread has the paths of values that were refused, partial the paths of lists of
	// which an item was refused.
	unread, partial map[string]bool
	// spellings has, for a path, the file's spelling of its last key, if that differs.
	spellings map[string]string
}

// add reports a fault of a value.
func (c *faultCollector) add(node *yaml.Node, path, given, accepted string) {
	c.addKey(node, path, given, accepted)
	c.markUnread(path)
}

// addKey reports a fault of a key in the mapping at a path. The other keys of the
// mapping still count.
func (c *faultCollector) addKey(node *yaml.Node, path, given, accepted string) {
	f := jobfactory.NewConfigError(path, given, accepted)
	f.Line = node.Line
	c.faults = append(c.faults, f)
}

// addMissing reports a key that a mapping must have.
func (c *faultCollector) addMissing(parent *yaml.Node, path, accepted string) {
	if !c.isConsequence(path) {
		c.faults = append(c.faults, &jobfactory.ConfigError{Line: parent.Line, Path: path, Accepted: "missing, want " + accepted})
		c.markUnread(path)
	}
}

func (c *faultCollector) markUnread(path string) {
	if c.unread == nil {
		c.unread, c.partial = map[string]bool{}, map[string]bool{}
	}
	c.unread[path] = true
	if list := strings.LastIndexByte(path, '['); list >= 0 && strings.HasSuffix(path, "]") {
		c.partial[path[:list]] = true
	}
}

// isConsequence reports whether a fault at the path may only be a consequence of a
// fault that is already reported: of the value itself, of a mapping or list that
// contains it, or of one of its items.
func (c *faultCollector) isConsequence(path string) bool {
	if c.partial[path] {
		return true
	}
	for path != "" {
		if c.unread[path] {
			return true
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return false
}

// addGroupFaults reports faults of a group, or of its trigger's metadata, with the
// file's paths and lines. find returns the node of a key, nil if there is none.
func (c *faultCollector) addGroupFaults(faults []*jobfactory.ConfigError, path string, group *yaml.Node, find func(key string) *yaml.Node) {
	for _, f := range faults {
		inFile := path + "." + f.Path
		// A mount of a volume that was refused is a consequence too.
		mount := strings.HasSuffix(f.Path, "].name") && strings.Contains(f.Path, "volume_mounts[")
		if c.isConsequence(inFile) || mount && c.isConsequence(path+".volumes") {
			continue
		}
		line := group.Line
		if node := find(f.Path); node != nil {
			line = node.Line
		}
		c.faults = append(c.faults, &jobfactory.ConfigError{Line: line, Path: inFile, Given: f.Given, Accepted: f.Accepted})
	}
}

// setSpelling remembers how the file spells the last key of a path.
func (c *faultCollector) setSpelling(path, key string) {
	if path != key && !strings.HasSuffix(path, "."+key) {
		if c.spellings == nil {
			c.spellings = map[string]string{}
		}
		c.spellings[path] = key
	}
}

// spelled returns a path with its keys as the file spells them.
func (c *faultCollector) spelled(path string) string {
	if len(c.spellings) == 0 {
		return path
	}
	keys := strings.Split(path, ".")
	spelled := slices.Clone(keys)
	for i := range keys {
		key, index, _ := strings.Cut(keys[i], "[")
		known := strings.Join(append(slices.Clone(keys[:i]), key), ".")
		if spelling, ok := c.spellings[known]; ok {
			spelled[i] = spelling
			if index != "" {
				spelled[i] += "[" + index
			}
		}
	}
	return strings.Join(spelled, ".")
}

// err joins the faults in the order of lines; nil if there are none.
func (c *faultCollector) err() error {
	slices.SortStableFunc(c.faults, func(x, y *jobfactory.ConfigError) int { return x.Line - y.Line })
	for _, f := range c.faults {
		f.Path = c.spelled(f.Path)
	}
	return jobfactory.JoinFaults(c.faults)
}
