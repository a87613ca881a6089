package jobfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// JobTemplate is what a job template of Atlassian's runners-autoscaler changes,
// as far as it can be carried over: an overlay that each group's own settings
// are laid upon.
type JobTemplate struct {
	job batchv1.Job
	// metadata, pod, runner and daemon are what has no key of a group, as patches of
	// the pod template's metadata and spec and of the two containers.
	metadata, pod, runner, daemon map[string]any
	// Notes say, for each thing that is not carried over, why and what to do instead.
	Notes []string
}

// ReadJobTemplate reads the autoscaler's job template: a Job, alone, among other
// documents or in a List, or inside the ConfigMap that holds it.
func ReadJobTemplate(data []byte) (*JobTemplate, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("job template: %d bytes, want at most %d", len(data), maxFile)
	}
	template := &JobTemplate{}
	jobs, err := template.collect(placeholder.ReplaceAll(data, []byte(filledIn)), 0)
	if err != nil {
		return nil, err
	}
	if len(jobs) != 1 {
		return nil, fmt.Errorf("job template: %d Jobs, want one, alone, in a List or in a ConfigMap", len(jobs))
	}
	if jobs[0], err = template.withoutPlaceholders(jobs[0]); err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	if f := decodeFaults(jobs[0], "job", &template.job); len(f) > 0 {
		errs := make([]error, len(f))
		for i := range f {
			errs[i] = f[i]
		}
		return nil, fmt.Errorf("job template: %w", errors.Join(errs...))
	}
	if find(template.job.Spec.Template.Spec.Containers, runnerContainer, containerName) == nil {
		return nil, errors.New("job template: job.spec.template.spec.containers: want one named runner")
	}
	if err := template.sort(); err != nil {
		return nil, fmt.Errorf("job template: %w", err)
	}
	return template, nil
}

// collect finds the Jobs of a stream of documents. depth counts wrappings.
func (t *JobTemplate) collect(data []byte, depth int) ([]json.RawMessage, error) {
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
				if text := object.Data[name]; strings.Contains(text, "kind: Job") {
					inner = append(inner, []byte(text))
				}
			}
		case "Secret":
			t.note("Secret", "a runner's OAuth secret goes from process to process and stands in no Secret")
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

func (t *JobTemplate) note(path, instead string) {
	t.Notes = append(t.Notes, "job template: "+path+" is not carried over: "+instead)
}
