package definition

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// document is a bitbucket-pipelines.yml. Keys that are not here do not matter.
type document struct {
	Options struct {
		RunsOn *texts `yaml:"runs-on"`
	} `yaml:"options"`
	Definitions struct {
		Pipelines map[string]list   `yaml:"pipelines"`
		Imports   map[string]string `yaml:"imports"`
	} `yaml:"definitions"`
	Pipelines sections              `yaml:"pipelines"`
	Triggers  map[string][]starting `yaml:"triggers"`
}

// starting is a rule that starts custom pipelines on an event.
type starting struct {
	Condition string   `yaml:"condition"`
	Pipelines []string `yaml:"pipelines"`
}

// list is a pipeline: its items, or where it is imported from.
type list struct {
	items   []item
	imports string
}

// UnmarshalYAML reads both forms.
func (l *list) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return node.Decode(&l.items)
	}
	var from struct {
		Import string `yaml:"import"`
	}
	if err := node.Decode(&from); err != nil {
		return err
	}
	if l.imports = from.Import; l.imports == "" {
		return fmt.Errorf("line %d: want a list of steps, or import", node.Line)
	}
	return nil
}

// item is one entry of a pipeline's list.
type item struct {
	Step     *step     `yaml:"step"`
	Final    *step     `yaml:"final"`
	Parallel *parallel `yaml:"parallel"`
	Stage    *stage    `yaml:"stage"`
	// Variables are those of a custom pipeline.
	Variables []variable `yaml:"variables"`
}

type variable struct {
	Name    string `yaml:"name"`
	Default string `yaml:"default"`
}

type stage struct {
	Name       string  `yaml:"name"`
	Trigger    string  `yaml:"trigger"`
	Condition  *when   `yaml:"condition"`
	Deployment string  `yaml:"deployment"`
	OnFail     *onFail `yaml:"on-fail"`
	RunsOn     *texts  `yaml:"runs-on"`
	Steps      []item  `yaml:"steps"`
}

// parallel is a list of steps, or a mapping with steps.
type parallel struct {
	FailFast bool    `yaml:"fail-fast"`
	OnFail   *onFail `yaml:"on-fail"`
	Steps    []item  `yaml:"steps"`
}

// UnmarshalYAML reads both forms.
func (p *parallel) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.SequenceNode {
		return node.Decode(&p.Steps)
	}
	type mapping parallel
	return node.Decode((*mapping)(p))
}

type step struct {
	Name        string  `yaml:"name"`
	RunsOn      *texts  `yaml:"runs-on"`
	Trigger     string  `yaml:"trigger"`
	Condition   *when   `yaml:"condition"`
	Type        string  `yaml:"type"`
	Custom      string  `yaml:"custom"`
	OnFail      *onFail `yaml:"on-fail"`
	FailFast    *bool   `yaml:"fail-fast"`
	Script      scripts `yaml:"script"`
	Deployment  string  `yaml:"deployment"`
	Group       string  `yaml:"concurrency-group"`
	Concurrency struct {
		Group string `yaml:"group"`
	} `yaml:"concurrency"`
}

type onFail struct {
	Strategy string `yaml:"strategy"`
	Retries  *int   `yaml:"max-retries"`
	// Both spellings are in use.
	Count     *int `yaml:"maxRetryCount"`
	CountDash *int `yaml:"max-retry-count"`
}

// failure returns what an on-fail asks for.
func (f *onFail) failure() (Failure, error) {
	switch f.Strategy {
	case "", "fail":
		return Failure{}, nil
	case "ignore":
		return Failure{Ignore: true}, nil
	case "retry":
		for _, given := range []*int{f.Retries, f.Count, f.CountDash} {
			if given != nil {
				return Failure{Retries: min(max(*given, 0), maxRetries)}, nil
			}
		}
		return Failure{Retries: 1}, nil
	}
	return Failure{}, fmt.Errorf("on-fail: strategy %q, want fail, ignore or retry", f.Strategy)
}

// maxRetries bounds what one step may cost.
const maxRetries = 20

// when is a condition.
type when struct {
	Changesets *struct {
		Include []string `yaml:"includePaths"`
		Exclude []string `yaml:"excludePaths"`
	} `yaml:"changesets"`
	State string `yaml:"state"`
}

func (w *when) read() *Condition {
	if w == nil {
		return nil
	}
	read := &Condition{State: w.State}
	if w.Changesets != nil {
		read.Changes, read.Include, read.Exclude = true, w.Changesets.Include, w.Changesets.Exclude
	}
	return read
}

const manual = "manual"

// byHand reads a trigger.
func byHand(trigger string) (bool, error) {
	switch trigger {
	case "", "automatic":
		return false, nil
	case manual:
		return true, nil
	}
	return false, fmt.Errorf("trigger: %q, want manual or automatic", trigger)
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

// check refuses labels that Bitbucket refuses.
func (t *texts) check() error {
	if t == nil {
		return nil
	}
	var faults []error
	if len(*t) > maxLabels {
		faults = append(faults, fmt.Errorf("runs-on: %d labels, want at most %d", len(*t), maxLabels))
	}
	for i, l := range *t {
		(*t)[i] = strings.TrimSpace(l)
		if n := len((*t)[i]); n == 0 || n > maxLabel {
			faults = append(faults, fmt.Errorf("runs-on: %q, want labels of 1 to %d characters", l, maxLabel))
		}
	}
	return errors.Join(faults...)
}

// scripts are the lines of a script. Entries that are no strings are pipes.
type scripts []string

// UnmarshalYAML leaves pipes out.
func (s *scripts) UnmarshalYAML(node *yaml.Node) error {
	for _, line := range node.Content {
		if line.Kind == yaml.AliasNode {
			line = line.Alias
		}
		if line.Kind == yaml.ScalarNode {
			*s = append(*s, line.Value)
		}
	}
	return nil
}

var sleep = regexp.MustCompile(`^\s*sleep ([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*$`)

// duration returns the sum of a script's sleeps, and whether there are any.
func (s scripts) duration() (sum time.Duration, sleeps bool) {
	for _, line := range s {
		if found := sleep.FindStringSubmatch(line); found != nil {
			seconds, _ := strconv.ParseFloat(found[1], 64) // the pattern is a number
			sum += time.Duration(seconds * float64(time.Second))
			sleeps = true
		}
	}
	return sum, sleeps
}
