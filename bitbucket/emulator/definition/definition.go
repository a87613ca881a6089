// Package definition reads from a bitbucket-pipelines.yml what the emulator needs to play a
// pipeline: its steps in order, which of them run side by side, the runners that they want,
// and how long they take. Read is all of it.
//
// It is a small reader on purpose. It knows step, parallel, stage, runs-on (of a step and
// of options), trigger: manual, deployment and concurrency-group, and it takes the time of a
// step from the `sleep`s of its script. It ignores conditions, retries, fail-fast and the
// final step, and refuses imports.
package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bitbucket's limits.
const (
	// MaxSteps is the maximum number of steps per pipeline.
	MaxSteps  = 100
	maxLabels = 10
	maxLabel  = 50
)

// ErrNoPipeline means that the file defines no pipeline for what was asked.
var ErrNoPipeline = errors.New("no pipeline is defined for this selector")

// Pipeline is one pipeline of a file.
type Pipeline struct {
	// Selector names it.
	Selector Selector
	// Groups run one after the other. The steps of a group run side by side.
	Groups [][]Step
}

// Step is one step.
type Step struct {
	// Name may be empty.
	Name string
	// Labels are its runs-on. Without labels it runs on Bitbucket's own runners.
	Labels []string
	// Manual means that a user starts it.
	Manual bool
	// Lock is held from when the step is reached until it ends: a deployment or a
	// concurrency group. Empty means none.
	Lock string
	// Script contains the commands. Pipes are left out.
	Script []string
	// Duration is the sum of the script's sleeps.
	Duration time.Duration
}

// Read returns the pipeline that a file defines for a selector and a ref.
func Read(file []byte, want Wanted) (Pipeline, error) {
	var f document
	if err := yaml.Unmarshal(file, &f); err != nil {
		return Pipeline{}, fmt.Errorf("bitbucket-pipelines.yml: %w", err)
	}
	selector, items, ok := f.Pipelines.find(want)
	if !ok {
		return Pipeline{}, ErrNoPipeline
	}
	p := Pipeline{Selector: selector}
	for _, it := range items {
		p.Groups = append(p.Groups, it.groups()...)
	}
	count := 0
	for _, group := range p.Groups {
		for i := range group {
			st := &group[i]
			if len(st.Labels) == 0 {
				st.Labels = f.Options.RunsOn
			}
			if err := st.check(); err != nil {
				return Pipeline{}, err
			}
			count++
		}
	}
	if count == 0 || count > MaxSteps {
		return Pipeline{}, fmt.Errorf("bitbucket-pipelines.yml: %d steps, want 1 to %d", count, MaxSteps)
	}
	if p.Groups[0][0].Manual {
		return Pipeline{}, errors.New("bitbucket-pipelines.yml: the first step of a pipeline can't be manually triggered")
	}
	return p, nil
}

func (s Step) check() error {
	if len(s.Labels) > maxLabels {
		return fmt.Errorf("bitbucket-pipelines.yml: step %q has %d labels, want at most %d", s.Name, len(s.Labels), maxLabels)
	}
	for _, l := range s.Labels {
		if len(l) > maxLabel {
			return fmt.Errorf("bitbucket-pipelines.yml: label %q, want at most %d characters", l, maxLabel)
		}
	}
	return nil
}

// document is a bitbucket-pipelines.yml.
type document struct {
	Options struct {
		RunsOn texts `yaml:"runs-on"`
	} `yaml:"options"`
	Pipelines sections `yaml:"pipelines"`
}

// item is one entry of a pipeline's list. Entries of other kinds, such as variables, are
// ignored.
type item struct {
	Step     *step     `yaml:"step"`
	Parallel *parallel `yaml:"parallel"`
	Stage    *struct {
		Trigger string `yaml:"trigger"`
		Steps   []item `yaml:"steps"`
	} `yaml:"stage"`
}

// groups returns the groups of steps to which an item comes.
func (it item) groups() [][]Step {
	switch {
	case it.Step != nil:
		return [][]Step{{it.Step.step()}}
	case it.Parallel != nil:
		var group []Step
		for _, side := range it.Parallel.Steps {
			for _, steps := range side.groups() {
				group = append(group, steps...)
			}
		}
		if len(group) > 0 {
			return [][]Step{group}
		}
	case it.Stage != nil:
		var groups [][]Step
		for _, next := range it.Stage.Steps {
			groups = append(groups, next.groups()...)
		}
		if it.Stage.Trigger == manual && len(groups) > 0 {
			groups[0][0].Manual = true
		}
		return groups
	}
	return nil
}

const manual = "manual"

type step struct {
	Name    string  `yaml:"name"`
	RunsOn  texts   `yaml:"runs-on"`
	Trigger string  `yaml:"trigger"`
	Script  scripts `yaml:"script"`
	// Steps with the same deployment or concurrency group run one after the other.
	Deployment string `yaml:"deployment"`
	Group      string `yaml:"concurrency-group"`
}

var sleep = regexp.MustCompile(`^\s*sleep ([0-9]+(?:\.[0-9]+)?)\s*$`)

func (s *step) step() Step {
	made := Step{Name: s.Name, Labels: s.RunsOn, Manual: s.Trigger == manual, Script: s.Script}
	switch {
	case s.Group != "":
		made.Lock = "concurrency-group " + s.Group
	case s.Deployment != "":
		made.Lock = "deployment " + s.Deployment
	}
	for _, line := range s.Script {
		if found := sleep.FindStringSubmatch(line); found != nil {
			seconds, _ := strconv.ParseFloat(found[1], 64) // the pattern is a number
			made.Duration += time.Duration(seconds * float64(time.Second))
		}
	}
	return made
}

// parallel is a list of steps, or a mapping with steps.
type parallel struct {
	Steps []item `yaml:"steps"`
}

// UnmarshalYAML reads both forms.
func (p *parallel) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode(&p.Steps)
	}
	type mapping parallel
	return node.Decode((*mapping)(p))
}

// texts is a string or a list of strings.
type texts []string

// UnmarshalYAML reads both forms.
func (t *texts) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*t = texts{node.Value}
		return nil
	}
	return node.Decode((*[]string)(t))
}

// scripts are the lines of a script. Entries that are no strings are pipes.
type scripts []string

// UnmarshalYAML leaves pipes out.
func (s *scripts) UnmarshalYAML(node *yaml.Node) error {
	for _, line := range node.Content {
		if line.Kind == yaml.ScalarNode {
			*s = append(*s, line.Value)
		}
	}
	return nil
}
