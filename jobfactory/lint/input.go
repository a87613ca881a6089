package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
)

// Input collects what Check checks.
type Input struct {
	files    []string
	jobs     []*job
	findings []Finding
	// namespaces has the labels and annotations of each namespace that was read.
	namespaces map[string]map[string]string
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
	// namespaceMarks are the labels and annotations of its namespace, if they were read.
	namespaceMarks map[string]string
}

// Groups is the number of runner groups that were taken in, without those of files
// that cannot be read.
func (in *Input) Groups() int { return len(in.jobs) }

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

// addNamespace remembers the labels and annotations of a namespace.
func (in *Input) addNamespace(name string, labels, annotations map[string]string) {
	if in.namespaces == nil {
		in.namespaces = map[string]map[string]string{}
	}
	marks := map[string]string{}
	for _, values := range []map[string]string{labels, annotations} {
		for key, value := range values {
			marks[key] = value
		}
	}
	in.namespaces[name] = marks
}

func (in *Input) fault(rule Rule, file string, line int, path, message string) {
	in.findings = append(in.findings, Finding{Rule: rule.ID, Severity: rule.Severity, File: file, Line: line, Path: path, Message: message, Remedy: rule.Remedy})
}

// manifest adds a ScaledJob from its manifest.
func (in *Input) manifest(file string, node *yaml.Node) {
	var object kedav1alpha1.ScaledJob
	if err := decode(node, &object); err != nil {
		in.fault(unreadable, file, node.Line, "", err.Error())
		return
	}
	if version := kedav1alpha1.SchemeGroupVersion.String(); object.APIVersion != version {
		line, _ := lineOf(node, []string{"apiVersion"})
		in.fault(unreadable, file, line, "apiVersion", strconv.Quote(object.APIVersion)+", want "+version)
	}
	in.add(&job{ScaledJob: &object, file: file, node: node})
}

// decode decodes a node into a Kubernetes type.
func decode(node *yaml.Node, into any) error {
	var fields map[string]any
	if err := node.Decode(&fields); err != nil {
		return err
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// config adds the ScaledJobs that a configuration renders to, so that the rules apply to
// both.
func (in *Input) config(file string, source config.Source) {
	content, err := config.ReadPartial(source)
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
		node := source.Root
		if list := child(node, position.List); list != nil && position.Index < len(list.Content) {
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

// add adds a ScaledJob if one of its triggers is the scaler's.
func (in *Input) add(j *job) {
	for i, trigger := range j.Spec.Triggers {
		if !j.isOurs(trigger) {
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

// isOurs reports whether a trigger is the scaler's: one of its values names the Service,
// perhaps under a misspelt key, or the pod has the sidecar. Triggers of other scalers do
// not belong to the scaler, whatever their keys are.
func (j *job) isOurs(trigger kedav1alpha1.ScaleTriggers) bool {
	for key, value := range trigger.Metadata {
		if namesService(key, value) {
			return true
		}
	}
	external := trigger.Type == "external" || trigger.Type == "external-push"
	job := jobfactory.RunnerJob{JobSpec: j.jobSpec()}
	return job.HasSidecar() && (external || len(j.Spec.Triggers) == 1)
}

// namesService reports whether a value of a trigger's metadata is the address of the
// scaler's Service, perhaps misspelt.
func namesService(key, value string) bool {
	host, _, port := strings.Cut(value, ":")
	service, _, qualified := strings.Cut(host, ".")
	address := spelling.Nearest(strings.ReplaceAll(key, "_", ""), []string{"scalerAddress"}) != ""
	if !address && !port && !qualified {
		return false // a workspace may have the same name
	}
	similar := len(service)+3 > len(jobfactory.ServiceName) && spelling.Nearest(service, []string{jobfactory.ServiceName}) != ""
	return service == jobfactory.ServiceName || similar
}

func (j *job) id() string { return j.Namespace + "/" + j.Name }

// metadata returns the path of a key of the trigger's metadata.
func (j *job) metadata(key string) []string {
	return []string{"spec", "triggers", strconv.Itoa(j.trigger), "metadata", key}
}

func (j *job) finding(rule Rule, message string, path []string) Finding {
	f := Finding{Rule: rule.ID, Severity: rule.Severity, File: j.file, Object: j.id(), Path: jobfactory.JoinPath(path), Message: message, Remedy: rule.Remedy}
	switch {
	case j.entry != "":
		f.Line, f.Path = j.inConfig(path)
	case j.node != nil:
		f.Line, _ = lineOf(j.node, path)
	}
	return f
}
