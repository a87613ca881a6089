package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config/jobtemplate"
)

// maxItems bounds each list and mapping, including the list of groups, so that a
// small file with many aliases does not become a large configuration.
const maxItems = 1000

// reader reads YAML nodes and collects faults. Every method takes nil, or an
// explicit null, for a key that is not given.
type reader struct {
	faultCollector
	// template has the groups' defaults; nil means none.
	template *jobtemplate.Template
}

// given returns the node to which an alias refers, and nil for null.
func given(node *yaml.Node) *yaml.Node {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	return node
}

// valueOf returns the value of a key in a mapping, nil if there is none.
func valueOf(node *yaml.Node, key string) *yaml.Node {
	if node = given(node); node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for _, p := range pairs(node) {
		if name := p.key.Value; name == key || jobfactory.SnakeCase(name) == key {
			return given(p.value)
		}
	}
	return nil
}

// pair is a key of a mapping and its value. merged says whether they come from another
// mapping, by the key << of YAML 1.1.
type pair struct {
	key, value *yaml.Node
	merged     bool
}

func isMerge(key *yaml.Node) bool { return key.Kind == yaml.ScalarNode && key.Tag == "!!merge" }

// pairs returns the keys of a mapping: its own ones first, and then those that are
// merged into it.
func pairs(node *yaml.Node) []pair {
	budget := 10 * maxItems
	return appendPairs(nil, node, 0, &budget)
}

// appendPairs follows merges as far as the budget of mappings allows: a mapping may merge
// itself.
func appendPairs(all []pair, node *yaml.Node, depth int, budget *int) []pair {
	const deepest = 10
	*budget--
	if node = given(node); node == nil || depth > deepest || len(all) > maxItems || *budget < 0 {
		return all
	}
	if node.Kind == yaml.SequenceNode { // of mappings, of which the earlier ones win
		for _, item := range node.Content {
			all = appendPairs(all, item, depth+1, budget)
		}
		return all
	}
	if node.Kind != yaml.MappingNode {
		return all
	}
	var merges []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if isMerge(node.Content[i]) {
			merges = append(merges, node.Content[i+1])
			continue
		}
		all = append(all, pair{node.Content[i], node.Content[i+1], depth > 0})
	}
	for _, merge := range merges {
		all = appendPairs(all, merge, depth+1, budget)
	}
	return all
}

// object reads a mapping with the known keys, or with any keys if known is nil.
func (r *reader) object(node *yaml.Node, path string, known []string) map[string]*yaml.Node {
	node = given(node)
	if node == nil {
		return nil
	}
	all := pairs(node)
	if node.Kind != yaml.MappingNode || len(all) > maxItems {
		r.add(node, under(path, ""), describe(node), "a mapping of keys to values")
		return nil
	}
	fields := make(map[string]*yaml.Node, len(all))
	for _, p := range all {
		key, value := p.key, given(p.value)
		name := key.Value
		if known != nil && !slices.Contains(known, name) && slices.Contains(known, jobfactory.SnakeCase(name)) {
			name = jobfactory.SnakeCase(name)
		}
		_, twice := fields[name]
		switch {
		case key.Kind != yaml.ScalarNode:
			r.addKey(key, under(path, ""), describe(key), "plain keys")
		case known != nil && !slices.Contains(known, name):
			accepted := "one of the keys " + strings.Join(known, ", ")
			if nearest := spelling.Nearest(name, known); nearest != "" {
				accepted += "; did you mean " + nearest + "?"
			}
			r.addKey(key, under(path, ""), key.Value, accepted)
		case twice && p.merged: // the mapping's own value counts, also if it is null
		case twice:
			r.addKey(key, under(path, ""), key.Value, "each key once")
		default:
			fields[name] = value
			r.setSpelling(under(path, name), key.Value)
		}
	}
	maps.DeleteFunc(fields, func(_ string, value *yaml.Node) bool { return value == nil })
	return fields
}

// under returns the path of a key in the mapping at a path.
func under(path, key string) string {
	switch {
	case path == "" && key == "":
		return "file"
	case path == "":
		return key
	case key == "":
		return path
	}
	return path + "." + key
}

// describe returns what an error shows of a node.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return node.Value
	}
}

func (r *reader) list(node *yaml.Node, path string) []*yaml.Node {
	node = given(node)
	if node == nil {
		return nil
	}
	if node.Kind != yaml.SequenceNode || len(node.Content) > maxItems {
		accepted := "a list"
		switch node.Kind {
		case yaml.SequenceNode:
			accepted = fmt.Sprintf("a list of at most %d items", maxItems)
		case yaml.ScalarNode:
			accepted = "a list, such as [" + node.Value + "]"
		}
		r.add(node, path, describe(node), accepted)
		return nil
	}
	return node.Content
}

// text returns a scalar as it is written, so that 1.10 stays 1.10.
func (r *reader) text(node *yaml.Node, path string) (string, bool) {
	node = given(node)
	if node == nil {
		return "", false
	}
	if node.Kind != yaml.ScalarNode {
		accepted := "one value"
		if node.Kind == yaml.MappingNode {
			accepted += `; a UUID's braces need quotes: "{…}"`
		}
		r.add(node, path, describe(node), accepted)
		return "", false
	}
	return node.Value, true
}

// texts reads a mapping whose values are scalars.
func (r *reader) texts(node *yaml.Node, path string, known []string) map[string]string {
	fields := r.object(node, path, known)
	if fields == nil {
		return nil
	}
	values := make(map[string]string, len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if value, ok := r.text(fields[key], under(path, key)); ok {
			values[key] = value
		}
	}
	return values
}

func (r *reader) strings(nodes []*yaml.Node, path string) []string {
	values := make([]string, 0, len(nodes))
	for i, node := range nodes {
		value, ok := r.text(node, fmt.Sprintf("%s[%d]", path, i))
		if ok || given(node) != nil { // a refused one counts, so that the others keep their index
			values = append(values, value)
		}
	}
	return values
}

// items reads a list that the trigger's metadata joins with commas.
func (r *reader) items(node *yaml.Node, path string) []string {
	values := r.strings(r.list(node, path), path)
	for i, value := range values {
		at := fmt.Sprintf("%s[%d]", path, i)
		if (strings.Contains(value, ",") || strings.TrimSpace(value) == "") && !r.isConsequence(at) {
			r.add(node, at, value, "one item, without a comma")
		}
	}
	return values
}

func (r *reader) boolean(node *yaml.Node, path string, into *bool) {
	text, ok := r.text(node, path)
	if !ok {
		return
	}
	if text != "true" && text != "false" {
		r.add(node, path, text, "true or false")
	}
	*into = text == "true"
}

var seconds = regexp.MustCompile(`^[0-9]{1,9}$`)

func (r *reader) duration(node *yaml.Node, path string, into *time.Duration) {
	text, ok := r.text(node, path)
	if !ok {
		return
	}
	unit := ""
	if seconds.MatchString(text) {
		unit = "s"
	}
	d, err := time.ParseDuration(text + unit)
	if err != nil {
		r.add(node, path, text, "a duration such as 5s or 2h10m, or bare seconds")
	}
	*into = d
}

// resources reads requests and limits. What is not given keeps its default, as far as a
// request does not exceed its limit.
func (r *reader) resources(node *yaml.Node, path string, into *corev1.ResourceRequirements) {
	if given(node) == nil {
		return
	}
	fields := r.object(node, path, names(resourceKeys))
	amounts := func(key string) corev1.ResourceList {
		values := r.texts(fields[key], under(path, key), nil)
		if len(values) == 0 {
			return nil
		}
		list := make(corev1.ResourceList, len(values))
		for _, name := range slices.Sorted(maps.Keys(values)) {
			amount, err := resource.ParseQuantity(values[name])
			if err != nil || !plainAmount.MatchString(values[name]) {
				r.add(valueOf(fields[key], name), path+"."+key+"."+name, values[name], "an amount such as 2Gi or 1000m")
				continue
			}
			list[corev1.ResourceName(name)] = amount
		}
		return list
	}
	defaults := *into
	*into = corev1.ResourceRequirements{Requests: amounts("requests"), Limits: amounts("limits"), Claims: defaults.Claims}
	for name, amount := range defaults.Limits {
		if request, ok := into.Requests[name]; ok && request.Cmp(amount) > 0 {
			amount = request
		}
		fill(&into.Limits, name, amount)
	}
	for name, amount := range defaults.Requests {
		switch limit, ok := into.Limits[name]; {
		case ok && limit.Sign() < 0: // refused
			continue
		case ok && limit.Cmp(amount) < 0:
			amount = limit
		}
		fill(&into.Requests, name, amount)
	}
}

// plainAmount has no exponent that takes long to compute with.
var plainAmount = regexp.MustCompile(`^[-+]?[0-9.]{1,30}([a-zA-Z]{1,2}|[eE][-+]?[0-9]{1,2})?$`)

// fill adds an amount that is not given.
func fill(list *corev1.ResourceList, name corev1.ResourceName, amount resource.Quantity) {
	if *list == nil {
		*list = corev1.ResourceList{}
	}
	if _, given := (*list)[name]; !given {
		(*list)[name] = amount
	}
}
