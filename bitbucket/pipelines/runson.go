package pipelines

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	// maxLabels and maxLabelLength are Bitbucket's limits of a step's runs-on.
	maxLabels      = 10
	maxLabelLength = 50
)

// labels are the value of a runs-on and whether it is given at all.
type labels struct {
	names   Labels
	unknown string
	given   bool
}

// runsOn reads the labels of a step, or of the file's options. An empty list stands for
// Atlassian's own runners.
func (r *reader) runsOn(m *mapping) labels {
	if m == nil {
		return labels{}
	}
	path, node := under(m.path, "runs-on"), m.get("runs-on")
	if node == nil {
		return labels{}
	}
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	read := labels{given: true}
	if len(items) > maxLabels {
		r.fault(node, path, fmt.Sprintf("%d labels", len(items)), fmt.Sprintf("want at most %d", maxLabels))
		return read
	}
	for _, item := range items {
		label := r.value(item, path)
		if label == nil || label.Kind != yaml.ScalarNode || label.ShortTag() != "!!str" {
			r.fault(item, path, describe(label), "want a label, or a list of labels, in quotes if it looks like a number")
			continue
		}
		text := strings.TrimSpace(label.Value)
		switch {
		case text == "" || len(text) > maxLabelLength:
			r.fault(item, path, label.Value, fmt.Sprintf("want labels of 1 to %d characters", maxLabelLength))
		case strings.Contains(text, "$"):
			read.unknown = fmt.Sprintf("runs-on %q: Bitbucket does not replace variables in labels", text)
		}
		read.names = append(read.names, text)
	}
	if read.unknown != "" {
		read.names = nil
	}
	return read
}
