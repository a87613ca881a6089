// Package jobtemplate carries a job template of Atlassian's runners-autoscaler over
// into the defaults of runner groups. Each field of the template either becomes a
// default, or a note says why it does not. How the file with the groups is read is
// in package config.
package jobtemplate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"bitbucket-runner-scaler/jobfactory"
)

// Template is what a job template changes, as far as it can be carried over. A
// group's own settings take precedence over it.
type Template struct {
	job batchv1.Job
	// metadata, pod, runner and daemon are the fields that have no key of a group, as
	// patches of the pod template's metadata and spec and of the two containers.
	metadata, pod, runner, daemon map[string]any
	// dockerArgs are the options of dockerd.
	dockerArgs []string
	// Notes say for each field that is not carried over why, and what to do instead.
	Notes []string
}

// Read reads a job template: a Job that is alone, among other documents, in a List,
// or inside the ConfigMap that contains it.
func Read(data []byte) (*Template, error) {
	if len(data) > jobfactory.MaxInput {
		return nil, fmt.Errorf("job template: %d bytes, want at most %d", len(data), jobfactory.MaxInput)
	}
	text, notes, err := evaluate(string(data))
	if err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	template := &Template{Notes: notes}
	jobs, err := template.collect([]byte(text), 0)
	if err != nil {
		return nil, err
	}
	if len(jobs) != 1 {
		return nil, fmt.Errorf("job template: %d Jobs, want one, alone, in a List or in a ConfigMap", len(jobs))
	}
	if jobs[0], err = template.withoutPlaceholders(jobs[0]); err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	if err := jobfactory.JoinFaults(jobfactory.DecodeStrict(jobs[0], "job", &template.job)); err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	if container(template.job.Spec.Template.Spec.Containers, jobfactory.RunnerContainer) == nil {
		return nil, errors.New("job template: job.spec.template.spec.containers: want one with the name runner")
	}
	if err := template.divide(); err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	return template, nil
}

// collect returns the Jobs in a stream of documents. depth is the number of Lists and
// ConfigMaps around the stream.
func (t *Template) collect(data []byte, depth int) ([]json.RawMessage, error) {
	if depth > 3 {
		return nil, nil
	}
	var jobs []json.RawMessage
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(data)), 4096)
	for {
		var document json.RawMessage
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return jobs, nil
		} else if err != nil {
			return nil, fmt.Errorf("job template: not YAML: %w", err)
		}
		var object struct {
			Kind  string            `json:"kind"`
			Data  map[string]string `json:"data"`
			Items []json.RawMessage `json:"items"`
		}
		if err := json.Unmarshal(document, &object); err != nil {
			return nil, fmt.Errorf("job template: want Kubernetes objects: %w", err)
		}
		var inner [][]byte
		switch object.Kind {
		case "Job":
			jobs = append(jobs, document)
		case "List":
			for _, item := range object.Items {
				inner = append(inner, item)
			}
		case "ConfigMap":
			for _, name := range slices.Sorted(maps.Keys(object.Data)) {
				if text := object.Data[name]; jobKind.MatchString(text) {
					inner = append(inner, []byte(text))
				}
			}
		case "Secret":
			t.note("Secret", "a runner's OAuth secret is passed from process to process and is not in any Secret")
		}
		for _, document := range inner {
			found, err := t.collect(document, depth+1)
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, found...)
		}
	}
}

// jobKind matches texts that contain a Job.
var jobKind = regexp.MustCompile(`\bkind["']?\s*:\s*["']?Job\b`)

func (t *Template) note(path, instead string) {
	t.Notes = append(t.Notes, "job template: "+path+" is not carried over: "+instead)
}

// container returns the container with the given name, nil if there is none.
func container(containers []corev1.Container, name string) *corev1.Container {
	for i := range containers {
		if containers[i].Name == name {
			return &containers[i]
		}
	}
	return nil
}
