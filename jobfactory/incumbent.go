package jobfactory

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// What the forms of Atlassian's runners-autoscaler have of their own.
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

// constants reads them. Those that groups take over are judged here, where they
// stand, rather than in each of the groups.
func (r *reader) constants(node *yaml.Node) map[string]string {
	constants := r.texts(node, "constants", names(constantKeys))
	judge := func(key, path string, faults []*ConfigError) {
		for _, f := range faults {
			if f.Path == path {
				r.add(valueOf(node, key), "constants."+key, constants[key], f.Accepted)
				delete(constants, key)
			}
		}
	}
	if namespace := constants[namespaceConstant]; namespace != "" {
		g := NewRunnerGroup("", runnergroup.Group{})
		g.Namespace = namespace
		judge(namespaceConstant, "namespace", configErrors(g.manifestFaults()))
	}
	if coolDown := constants[coolDownConstant]; coolDown != "" {
		_, err := runnergroup.Parse(map[string]string{"coolDown": coolDown})
		var invalid *runnergroup.InvalidError
		if errors.As(err, &invalid) {
			for _, f := range invalid.Faults {
				judge(coolDownConstant, "coolDown", []*ConfigError{{Path: f.Key, Accepted: f.Accepted}})
			}
		}
	}
	return constants
}

// notes answers the constants that steered what is done in another way now.
func notes(constants map[string]string) []string {
	answers := map[string]string{
		setupConstant:  "runners are set up in parallel, each by its Job's sidecar, and nothing is slept over",
		deleteConstant: "a runner is deleted when its Job ends, and nothing is slept over",
		pollConstant:   "how often Bitbucket is asked is the scaler's --poll-interval, one list a scope; how often KEDA asks the scaler is a group's polling_interval",
	}
	var notes []string
	for _, key := range names(constantKeys) {
		if answer, ok := answers[key]; ok && constants[key] != "" {
			notes = append(notes, fmt.Sprintf("constants.%s has no effect: %s", key, answer))
		}
	}
	return notes
}

// groups is the list of runner groups and the key that it stands under.
func (r *reader) groups(file map[string]*yaml.Node, root *yaml.Node) (key string, nodes []*yaml.Node) {
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
		r.missing(root, key, "a list of at least one group")
	}
	return key, nodes
}

// mode reads the older form's `type`, and `manual` where a strategy stands, as
// the strategies that they mean: manual keeps a number of runners, which is
// runners_count, 1 if it is not given; with 0 every idle one goes.
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
		e.add(e.fields["type"], e.at("type"), kind, "what the strategy means, which is "+strategy+", or one of the two keys alone")
	default:
		e.add(e.fields["type"], e.at("type"), kind, manual+" or "+autoscaling)
	}
	count, counted := metadata[runnersCount]
	delete(metadata, runnersCount) // the trigger knows count alone
	_, ours := metadata["count"]
	byHand := kind == manual || strategy == manual
	switch {
	case counted && ours:
		e.add(valueOf(parameters, runnersCount), e.at("parameters."+runnersCount), count, "one of count and "+runnersCount+", not both")
	case counted && metadata["strategy"] != fixed && e.follows(e.at("type")): // it may have been manual
	case counted && metadata["strategy"] != fixed:
		e.add(valueOf(parameters, runnersCount), e.at("parameters."+runnersCount), count, "no such key, or type "+manual)
	case counted:
		metadata["count"] = count
		written, ok := e.written[e.at("parameters."+runnersCount)]
		if !ok {
			written = runnersCount
		}
		e.spell(e.at("parameters.count"), written)
	case byHand && !ours && metadata["strategy"] == fixed:
		metadata["count"] = "1"
	}
}
