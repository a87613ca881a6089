// Package chart makes the parts of the Helm chart that must agree with package
// jobfactory and the configuration file: what every runner's Job has, and the JSON Schema
// of the value `groups`. `make generate` writes them into the chart, whose templates add
// the user's keys.
package chart

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/jobfactory"
)

// parts is the content of the file that the chart's templates read.
type parts struct {
	// ScaledJobs of a group with defaults, by whether it has a Docker daemon and TLS.
	ScaledJobs map[string]any `json:"scaledJobs"`
	// Shared are the objects that the groups of a namespace share.
	Shared map[string]any `json:"shared"`
	// Architectures of the nodes by a group's OS.
	Architectures map[string]string `json:"architectures"`
	// Max is the default of the maximum number of runners.
	Max int `json:"max"`
	// Identity are the variables that a group must not set.
	Identity []string `json:"identity"`
	// MergeKeys of the lists of a pod template that a patch merges, by their paths.
	MergeKeys map[string]string `json:"mergeKeys"`
}

const head = "# Generated from jobfactory by `make generate`: what the runners' Jobs have without the user's keys.\n"

// Parts returns the file that the chart's templates read.
func Parts() ([]byte, error) {
	p := parts{
		ScaledJobs: map[string]any{}, Shared: map[string]any{}, Architectures: map[string]string{},
		Identity: jobfactory.IdentityVariables(), MergeKeys: map[string]string{},
	}
	group, err := runnergroup.Parse(map[string]string{"workspace": "any", "labels": "any"})
	if err != nil {
		return nil, fmt.Errorf("group with defaults: %w", err)
	}
	p.Max = group.Highest()
	for _, docker := range []bool{true, false} {
		for _, tls := range []bool{true, false} {
			g := jobfactory.NewRunnerGroup("any", group)
			g.Docker, g.TLS = docker, tls
			scaledJob, err := jobfactory.ScaledJob(g)
			if err != nil {
				return nil, fmt.Errorf("ScaledJob with defaults: %w", err)
			}
			if p.ScaledJobs[variant(docker, tls)], err = plain(scaledJob); err != nil {
				return nil, err
			}
		}
	}
	for _, system := range []string{jobfactory.Linux, jobfactory.LinuxARM} {
		g := jobfactory.NewRunnerGroup("any", group)
		g.Group.OS = system
		scaledJob, err := jobfactory.ScaledJob(g)
		if err != nil {
			return nil, fmt.Errorf("ScaledJob for %s: %w", system, err)
		}
		p.Architectures[system] = scaledJob.Spec.JobTargetRef.Template.Spec.NodeSelector[corev1.LabelArchStable]
	}
	if err := p.share(jobfactory.NewRunnerGroup("any", group)); err != nil {
		return nil, err
	}
	addMergeKeys(p.MergeKeys, "", reflect.TypeFor[corev1.PodTemplateSpec]())
	text, err := yaml.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("parts of the chart: %w", err)
	}
	return append([]byte(head), text...), nil
}

func variant(docker, tls bool) string {
	return map[bool]string{true: "docker", false: "alone"}[docker] + "-" + map[bool]string{true: "tls", false: "plain"}[tls]
}

// share adds what is beside the ScaledJob in a namespace.
func (p *parts) share(g jobfactory.RunnerGroup) error {
	files, err := jobfactory.Manifests([]jobfactory.RunnerGroup{g})
	if err != nil {
		return fmt.Errorf("manifests with defaults: %w", err)
	}
	for _, object := range files[0].Objects {
		kind := reflect.TypeOf(object).Elem().Name()
		if p.Shared[kind], err = plain(object); err != nil {
			return err
		}
	}
	return nil
}

// plain returns an object as render writes it.
func plain(object any) (any, error) {
	text, err := jobfactory.Marshal(object)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := yaml.Unmarshal(bytes.TrimSpace(text), &fields); err != nil {
		return nil, fmt.Errorf("read %T: %w", object, err)
	}
	return fields, nil
}

// addMergeKeys adds the merge keys of a type and of those below it.
func addMergeKeys(keys map[string]string, path string, t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || strings.Count(path, ".") > deepest {
		return
	}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "" && strings.Contains(options, "inline"):
			addMergeKeys(keys, path, field.Type)
			continue
		case name == "" || name == "-":
			continue
		}
		at := strings.TrimPrefix(path+"."+name, ".")
		if key := field.Tag.Get("patchMergeKey"); key != "" && strings.HasPrefix(field.Tag.Get("patchStrategy"), "merge") {
			keys[at] = key
		}
		addMergeKeys(keys, at, field.Type)
	}
}

// deepest bounds the depth of a path, since a type may contain itself.
const deepest = 8
