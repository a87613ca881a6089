package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

var (
	unreadable = Rule{ID: "manifest-invalid", Severity: Error, Finds: "a document that is not YAML, or a ScaledJob with fields that KEDA does not accept",
		Remedy: "correct the document; the message says where it is wrong"}
	badConfig = Rule{ID: "config-invalid", Severity: Error, Finds: "a configuration file that `runnerctl render` refuses",
		Remedy: "correct the key's value; the message says what is accepted"}
)

// Input collects what Check checks.
type Input struct {
	files    []string
	jobs     []*job
	findings []Finding
}

// job is a ScaledJob of a runner group, and its origin.
type job struct {
	*kedav1alpha1.ScaledJob
	file string
	// node of the manifest; nil for a live object. In a configuration file it is the
	// group's node, and entry is the group's path, such as groups[0].
	node  *yaml.Node
	entry string
	// trigger is the index of the external one.
	trigger int
	// group is the content of the trigger's metadata; invalid has its faults.
	group   runnergroup.Group
	invalid *runnergroup.InvalidError
}

// Read adds one file. Its content shows whether it is a configuration file or
// manifests. What cannot be read becomes findings.
func (in *Input) Read(file string, data []byte) {
	in.files = append(in.files, file)
	if len(data) > jobfactory.MaxInput {
		in.fault(unreadable, file, 0, "", fmt.Sprintf("the file has more than %d bytes", jobfactory.MaxInput))
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for first := true; ; first = false {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			in.fault(unreadable, file, 0, "", err.Error())
			return
		}
		if len(document.Content) == 0 {
			continue
		}
		root := document.Content[0]
		switch {
		case first && root.Kind == yaml.MappingNode && child(root, "kind") == nil:
			in.config(file, data, root)
			return
		case scalar(root, "kind") == "ScaledJob":
			in.manifest(file, root)
		case scalar(root, "kind") == "List":
			if items := child(root, "items"); items != nil {
				for _, item := range items.Content {
					if scalar(item, "kind") == "ScaledJob" {
						in.manifest(file, item)
					}
				}
			}
		}
	}
}

// Add adds a ScaledJob of a live cluster, as JSON.
func (in *Input) Add(data []byte) error {
	var object kedav1alpha1.ScaledJob
	if err := json.Unmarshal(data, &object); err != nil {
		return fmt.Errorf("read ScaledJob: %w", err)
	}
	name := object.Namespace + "/" + object.Name
	in.files = append(in.files, name)
	in.add(&job{ScaledJob: &object, file: name})
	return nil
}

func (in *Input) fault(rule Rule, file string, line int, path, message string) {
	in.findings = append(in.findings, Finding{Rule: rule.ID, Severity: rule.Severity, File: file, Line: line, Path: path, Message: message, Remedy: rule.Remedy})
}

func (in *Input) manifest(file string, node *yaml.Node) {
	var fields map[string]any
	var object kedav1alpha1.ScaledJob
	err := node.Decode(&fields)
	if err == nil {
		var data []byte
		if data, err = json.Marshal(fields); err == nil {
			err = json.Unmarshal(data, &object)
		}
	}
	if err != nil {
		in.fault(unreadable, file, node.Line, "", err.Error())
		return
	}
	in.add(&job{ScaledJob: &object, file: file, node: node})
}

// config adds the ScaledJobs that a configuration file renders to, so that the rules
// apply to both.
func (in *Input) config(file string, data []byte, root *yaml.Node) {
	content, err := config.ReadPartial(data)
	if err != nil {
		errs := []error{err}
		if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // Read joins errors and does not wrap the result
			errs = joined.Unwrap()
		}
		for _, err := range errs {
			var f *jobfactory.ConfigError
			if !errors.As(err, &f) {
				in.fault(badConfig, file, 0, "", err.Error())
				continue
			}
			in.fault(badConfig, file, f.Line, f.Path, strings.TrimPrefix(strings.TrimPrefix(err.Error(), fmt.Sprintf("line %d: ", f.Line)), f.Path+": "))
		}
	}
	for i, group := range content.Groups {
		position := content.Positions[i]
		node := root
		if list := child(root, position.List); list != nil && position.Index < len(list.Content) {
			node = list.Content[position.Index]
		}
		object, err := jobfactory.ScaledJob(group)
		if err != nil {
			in.fault(badConfig, file, node.Line, position.String(), err.Error())
			continue
		}
		in.add(&job{ScaledJob: object, file: file, node: node, entry: position.String()})
	}
}

// add adds a ScaledJob if it has an external trigger with a workspace or labels.
// Others do not belong to the scaler.
func (in *Input) add(j *job) {
	for i, trigger := range j.Spec.Triggers {
		if trigger.Type != "external" && trigger.Type != "external-push" {
			continue
		}
		if trigger.Metadata["workspace"] == "" && trigger.Metadata["labels"] == "" {
			continue
		}
		j.trigger = i
		var err error
		if j.group, err = runnergroup.Parse(trigger.Metadata); err != nil {
			errors.As(err, &j.invalid)
		}
		in.jobs = append(in.jobs, j)
		return
	}
}

func (j *job) id() string { return j.Namespace + "/" + j.Name }

// metadata returns the path of a key of the trigger's metadata.
func (j *job) metadata(key string) []string {
	return []string{"spec", "triggers", strconv.Itoa(j.trigger), "metadata", key}
}

func (j *job) finding(rule Rule, message string, path []string) Finding {
	f := Finding{Rule: rule.ID, Severity: rule.Severity, File: j.file, Object: j.id(), Path: join(path), Message: message, Remedy: rule.Remedy}
	switch {
	case j.entry != "":
		f.Line, f.Path = j.inConfig(path)
	case j.node != nil:
		f.Line, _ = lineOf(j.node, path)
	}
	return f
}

// configKeys maps fields of a ScaledJob to the keys of a group that set them.
var configKeys = map[string]string{
	"terminationGracePeriodSeconds": "grace_period", "annotations": "pod_template", "resources": "resources", "namespace": "namespace",
}

// inConfig returns the line and path in the configuration file of the key that sets
// a path in the ScaledJob. If no such key is given, they are the group's.
func (j *job) inConfig(path []string) (line int, name string) {
	var candidates [][]string
	for i, step := range path {
		if key, ok := configKeys[step]; ok {
			candidates = append(candidates, []string{key})
		}
		if i > 0 && step == path[len(path)-1] && path[i-1] == "metadata" {
			candidates = append(candidates, strings.Split(jobfactory.ConfigPath(step), "."), []string{"parameters", step}, []string{step})
		}
	}
	for _, candidate := range candidates {
		if line, found := lineOf(j.node, candidate); found {
			return line, j.entry + "." + join(candidate)
		}
	}
	return j.node.Line, j.entry
}

// join returns a path as text, with indices in brackets.
func join(path []string) string {
	var b strings.Builder
	for i, step := range path {
		switch _, err := strconv.Atoi(step); {
		case err == nil:
			b.WriteString("[" + step + "]")
		case i > 0:
			b.WriteString("." + step)
		default:
			b.WriteString(step)
		}
	}
	return b.String()
}

// lineOf returns the line of the deepest node on the path that exists. found says
// whether it is the end of the path.
func lineOf(node *yaml.Node, path []string) (line int, found bool) {
	line = node.Line
	for _, step := range path {
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		i, err := strconv.Atoi(step)
		switch {
		case node.Kind == yaml.SequenceNode && err == nil && i < len(node.Content):
			node = node.Content[i]
			line = node.Line
		case node.Kind == yaml.MappingNode:
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
