package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
	"bitbucket-runner-scaler/jobfactory"
)

// Values and keys that only Atlassian's runners-autoscaler has, and the values that
// they stand for.
const (
	manual       = "manual"
	autoscaling  = "autoscaling"
	fixed        = "fixed"
	percentage   = "percentageRunnersIdle"
	runnersCount = "runners_count"

	coolDownConstant  = "runner_cool_down_period"
	namespaceConstant = "default_runner_kubernetes_namespace"
	setupConstant     = "default_sleep_time_runner_setup"
	deleteConstant    = "default_sleep_time_runner_delete"
	pollConstant      = "runner_api_polling_interval"
)

// constants reads `constants`. It validates those that become groups' defaults, so
// that a fault is reported once rather than for each group.
func (r *reader) constants(node *yaml.Node) map[string]string {
	constants := r.texts(node, "constants", names(constantKeys))
	validate := func(key, path string, faults []*jobfactory.ConfigError) {
		for _, f := range faults {
			if f.Path == path {
				r.add(valueOf(node, key), "constants."+key, constants[key], f.Accepted)
				delete(constants, key)
			}
		}
	}
	if namespace := constants[namespaceConstant]; namespace != "" {
		g := jobfactory.NewRunnerGroup("", runnergroup.Group{})
		g.Namespace = namespace
		validate(namespaceConstant, "namespace", g.ManifestFaults())
	}
	if coolDown := constants[coolDownConstant]; coolDown != "" {
		_, err := runnergroup.Parse(map[string]string{"coolDown": coolDown})
		var invalid *runnergroup.InvalidError
		if errors.As(err, &invalid) {
			for _, f := range invalid.Faults {
				validate(coolDownConstant, "coolDown", []*jobfactory.ConfigError{{Path: f.Key, Accepted: f.Accepted}})
			}
		}
	}
	return constants
}

// notes returns a note for each constant that has no effect, with what replaces it.
func notes(constants map[string]string) []string {
	replaced := map[string]string{
		setupConstant:  "runners are set up in parallel, each by its Job's sidecar, without a pause",
		deleteConstant: "a runner is deleted when its Job ends, without a pause",
		pollConstant:   "the scaler's --poll-interval is how often it lists the runners of a scope; a group's polling_interval is how often KEDA calls the scaler",
	}
	var notes []string
	for _, key := range names(constantKeys) {
		if instead, ok := replaced[key]; ok && constants[key] != "" {
			notes = append(notes, fmt.Sprintf("constants.%s has no effect: %s", key, instead))
		}
	}
	return notes
}

// withoutOtherKeys returns a file without the keys that it does not have and that are no
// misspelt ones, and these keys. The runners-autoscaler ignores them, and users keep
// anchors there.
func withoutOtherKeys(root *yaml.Node) (*yaml.Node, []string) {
	if root.Kind != yaml.MappingNode {
		return root, nil
	}
	known, kept, others := names(fileKeys), *root, []string{}
	kept.Content = nil
	for i := 0; i+1 < len(root.Content); i += 2 {
		name := root.Content[i].Value
		if root.Content[i].Kind == yaml.ScalarNode && !isMerge(root.Content[i]) && !slices.Contains(known, name) && spelling.Nearest(name, known) == "" {
			others = append(others, name)
			continue
		}
		kept.Content = append(kept.Content, root.Content[i], root.Content[i+1])
	}
	return &kept, others
}

func otherNotes(others []string) []string {
	notes := make([]string, len(others))
	for i, key := range others {
		notes[i] = fmt.Sprintf("%s has no effect: it is no key of the file, except for anchors in it", key)
	}
	return notes
}

// groups returns the list of runner groups and its key. others are the file's keys that
// are not its own.
func (r *reader) groups(file map[string]*yaml.Node, root *yaml.Node, others []string) (key string, nodes []*yaml.Node) {
	key = "groups"
	if older := file["config"]; older != nil {
		if file["groups"] != nil {
			r.add(older, "config", describe(older), "one of groups and config, not both")
		} else {
			key = "config"
		}
	}
	before := len(r.faults)
	if nodes = r.list(file[key], key); len(nodes) == 0 && len(r.faults) == before {
		accepted := "a list of at least one group"
		if len(others) > 0 {
			accepted += "; the file has " + strings.Join(others[:min(len(others), 5)], ", ")
		}
		r.addMissing(root, key, accepted)
	}
	return key, nodes
}

// mode translates the older form's `type`, and the strategy `manual`, into a
// strategy. manual keeps runners_count runners, by default 1.
func (e entry) mode(metadata map[string]string) {
	parameters := e.fields["parameters"]
	strategy := metadata["strategy"]
	if strategy == manual {
		metadata["strategy"] = fixed
	}
	kind, typed := e.textOf("type")
	switch {
	case !typed:
	case kind == manual && (strategy == "" || strategy == manual || strategy == fixed):
		metadata["strategy"] = fixed
	case kind == autoscaling && strategy != manual && strategy != fixed:
	case kind == manual || kind == autoscaling:
		e.add(e.fields["type"], e.at("type"), kind, "the type of strategy "+strategy+", or only one of the two keys")
	default:
		e.add(e.fields["type"], e.at("type"), kind, manual+" or "+autoscaling)
	}
	count, counted := metadata[runnersCount]
	delete(metadata, runnersCount) // the trigger only has count
	_, current := metadata["count"]
	isManual := kind == manual || strategy == manual
	switch {
	case counted && current:
		e.add(valueOf(parameters, runnersCount), e.at("parameters."+runnersCount), count, "one of count and "+runnersCount+", not both")
	case counted && metadata["strategy"] != fixed && e.isConsequence(e.at("type")): // the type may have been manual
	case counted && metadata["strategy"] != fixed:
		e.add(valueOf(parameters, runnersCount), e.at("parameters."+runnersCount), count, "type "+manual+", or leave the key out")
	case counted:
		metadata["count"] = count
		spelling, ok := e.spellings[e.at("parameters."+runnersCount)]
		if !ok {
			spelling = runnersCount
		}
		e.setSpelling(e.at("parameters.count"), spelling)
	case isManual && !current && metadata["strategy"] == fixed:
		metadata["count"] = "1"
	}
}
