package lint

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory"
)

// configKeys maps fields of a ScaledJob to the keys of a group that set them.
var configKeys = map[string]string{
	"terminationGracePeriodSeconds": "grace_period", "annotations": "pod_template", "namespace": "namespace",
}

// inConfig returns the line and path in the configuration file of the key that sets
// a path in the ScaledJob. If no such key is given, they are the group's.
func (j *job) inConfig(path []string) (line int, name string) {
	var candidates [][]string
	resources := "resources"
	for i, step := range path {
		if step == "["+jobfactory.DockerContainer+"]" {
			resources = "docker_resources"
		}
		if step == "resources" {
			candidates = append(candidates, append([]string{resources}, path[i+1:]...), []string{resources})
		}
		if key, ok := configKeys[step]; ok {
			candidates = append(candidates, []string{key})
		}
		if i > 0 && step == path[len(path)-1] && path[i-1] == "metadata" {
			candidates = append(candidates, strings.Split(jobfactory.ConfigPath(step), "."), []string{"parameters", step}, []string{step})
		}
	}
	for _, candidate := range candidates {
		if line, found := lineOf(j.node, candidate); found {
			return line, j.entry + "." + jobfactory.JoinPath(candidate)
		}
	}
	return j.node.Line, j.entry
}

// lineOf returns the line of the deepest node on the path that exists. found says
// whether it is the end of the path.
func lineOf(node *yaml.Node, path []string) (line int, found bool) {
	line = node.Line
	for _, step := range path {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		switch node.Kind {
		case yaml.SequenceNode:
			if node = itemOf(node, step); node == nil {
				return line, false
			}
			line = node.Line
		case yaml.MappingNode:
			key := keyOf(node, step)
			if key < 0 {
				return line, false
			}
			line, node = node.Content[key].Line, node.Content[key+1]
		default:
			return line, false
		}
	}
	return line, true
}

// itemOf returns the item of a list at an index, or with a name in brackets; nil if
// there is none.
func itemOf(list *yaml.Node, step string) *yaml.Node {
	if i, err := strconv.Atoi(step); err == nil && i < len(list.Content) {
		return list.Content[i]
	}
	name := strings.TrimSuffix(strings.TrimPrefix(step, "["), "]")
	for _, item := range list.Content {
		if scalar(item, "name") == name || scalar(item, "mountPath") == name {
			return item
		}
	}
	return nil
}

func keyOf(node *yaml.Node, key string) int {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return i
		}
	}
	return -1
}

func child(node *yaml.Node, key string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	if i := keyOf(node, key); i >= 0 {
		return node.Content[i+1]
	}
	return nil
}

func scalar(node *yaml.Node, key string) string {
	if value := child(node, key); value != nil {
		return value.Value
	}
	return ""
}
