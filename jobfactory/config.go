package jobfactory

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Config is what a configuration file, a runners_config.yaml, says.
type Config struct {
	// Groups in the file's order, valid, names distinct within a namespace.
	Groups []RunnerGroup
	// Notes tell of keys that are read and have no effect.
	Notes []string
}

// Keys of a file, of a group, and of `constants`.
var (
	fileKeys  = []string{"groups", "constants"}
	groupKeys = []string{
		"name", "namespace", "workspace", "repository", "labels", "architecture", "strategy", "parameters", "repositories", "credentials",
		"resources", "docker", "docker_resources", "node_selector", "tolerations", "images", "entrypoint",
		"scaler_address", "tls", "polling_interval", "grace_period",
	}
	constantKeys = []string{
		coolDownConstant, namespaceConstant, "default_sleep_time_runner_setup", "default_sleep_time_runner_delete", "runner_api_polling_interval",
	}
)

const (
	coolDownConstant  = "runner_cool_down_period"
	namespaceConstant = "default_runner_kubernetes_namespace"
)

// ReadConfig reads a configuration file: `groups`, and optionally the `constants`
// of Atlassian's runners-autoscaler, whose snake_case file it takes. Unknown keys
// are refused. The error joins every *ConfigError, in the order of lines.
func ReadConfig(data []byte) (Config, error) {
	root, err := parse(data)
	if err != nil {
		return Config{}, err
	}
	r := &reader{}
	file := r.object(root, "", fileKeys)
	constants := r.texts(file["constants"], "constants", constantKeys)
	config := Config{Notes: notes(constants)}
	groups := r.list(file["groups"], "groups")
	if len(groups) == 0 && len(r.faults) == 0 {
		r.missing(root, "groups", "a list of at least one group")
	}
	taken := map[string]string{}
	for i, node := range groups {
		path := fmt.Sprintf("groups[%d]", i)
		group := r.group(node, path, constants)
		if key := group.Namespace + "/" + group.Name; group.Name != "" {
			if first, ok := taken[key]; ok {
				r.add(node, path+".name", group.Name, "another name: in namespace "+group.Namespace+" it is "+first+"'s already")
			} else {
				taken[key] = path
			}
		}
		config.Groups = append(config.Groups, group)
	}
	if len(r.faults) > 0 {
		return Config{}, r.err()
	}
	return config, nil
}

// parse finds the one document of a file.
func parse(data []byte) (*yaml.Node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("configuration: %d bytes, want at most %d", len(data), maxFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, further yaml.Node
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) || err == nil && document.Kind == 0 {
		return nil, fault("groups", "", "missing, want a list of at least one group")
	} else if err != nil {
		return nil, fmt.Errorf("configuration: not YAML: %w", err)
	}
	if err := decoder.Decode(&further); !errors.Is(err, io.EOF) {
		return nil, errors.New("configuration: more than one YAML document, want one")
	}
	return document.Content[0], nil
}

// notes explains the constants that steered what is done elsewhere now.
func notes(constants map[string]string) []string {
	var notes []string
	for _, key := range constantKeys[2:] {
		if _, ok := constants[key]; ok {
			notes = append(notes, fmt.Sprintf("constants.%s has no effect: nothing is slept over, and the scaler's --poll-interval says how often Bitbucket is asked", key))
		}
	}
	return notes
}

// group reads one group; its faults are the reader's.
func (r *reader) group(node *yaml.Node, path string, constants map[string]string) RunnerGroup {
	before := len(r.faults)
	fields := r.object(node, path, groupKeys)
	g := NewRunnerGroup(r.name(fields["name"], node, path+".name"), runnergroup.Group{})
	if namespace := constants[namespaceConstant]; namespace != "" {
		g.Namespace = namespace
	}
	g.Group = r.rules(fields, node, path, constants)
	into := func(value *string, key string) {
		if text, ok := r.text(fields[key], path+"."+key); ok {
			*value = text
		}
	}
	into(&g.Namespace, "namespace")
	into(&g.ScalerAddress, "scaler_address")
	images := r.texts(fields["images"], path+".images", []string{"runner", "sidecar", "docker"})
	for name, image := range map[string]*string{"runner": &g.Images.Runner, "sidecar": &g.Images.Sidecar, "docker": &g.Images.Docker} {
		if given, ok := images[name]; ok {
			*image = given
		}
	}
	r.resources(fields["resources"], path+".resources", &g.Resources)
	r.resources(fields["docker_resources"], path+".docker_resources", &g.DockerResources)
	g.NodeSelector = r.texts(fields["node_selector"], path+".node_selector", nil)
	g.Tolerations = r.tolerations(fields["tolerations"], path+".tolerations")
	if items := r.list(fields["entrypoint"], path+".entrypoint"); fields["entrypoint"] != nil {
		g.Entrypoint = r.strings(items, path+".entrypoint")
	}
	r.duration(fields["polling_interval"], path+".polling_interval", &g.PollingInterval)
	r.duration(fields["grace_period"], path+".grace_period", &g.GracePeriod)
	r.boolean(fields["tls"], path+".tls", &g.TLS)
	r.boolean(fields["docker"], path+".docker", &g.Docker)
	if len(r.faults) == before { // what could not be read is not blamed twice
		r.adopt(g.Validate(), fields, node, path)
	}
	return g
}

// rules reads what goes into the trigger's metadata, by the same parser that the
// scaler uses.
func (r *reader) rules(fields map[string]*yaml.Node, node *yaml.Node, path string, constants map[string]string) runnergroup.Group {
	before := len(r.faults)
	metadata := r.texts(fields["parameters"], path+".parameters", parameterKeys)
	if metadata == nil {
		metadata = map[string]string{}
	}
	if _, given := metadata["cool_down"]; !given && constants[coolDownConstant] != "" {
		metadata["cool_down"] = constants[coolDownConstant]
	}
	for _, key := range []string{"workspace", "repository", "strategy", "credentials"} {
		if text, ok := r.text(fields[key], path+"."+key); ok {
			metadata[key] = text
		}
	}
	for _, key := range []string{"labels", "repositories"} {
		metadata[key] = strings.Join(r.items(fields[key], path+"."+key), ",")
	}
	if arch, ok := r.text(fields["architecture"], path+".architecture"); ok {
		if arch != archAMD && arch != archARM {
			r.add(fields["architecture"], path+".architecture", arch, archAMD+" or "+archARM)
		}
		if arch == archARM {
			metadata["os"] = linuxARM
		}
	}
	unreadable := len(r.faults) > before
	group, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if errors.As(err, &invalid) {
		for _, f := range invalid.Faults {
			key := configPath(f.Key)
			at, name := fields[key], key
			if parameter, ok := strings.CutPrefix(key, "parameters."); ok {
				at = valueOf(fields["parameters"], parameter)
			}
			if unreadable && at == nil {
				continue // perhaps it is there, in a form that was refused already
			}
			if at == nil {
				at = node
			}
			r.faults = append(r.faults, &ConfigError{Line: at.Line, Path: path + "." + name, Given: f.Given, Accepted: f.Accepted})
		}
	}
	return group
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// name makes a ScaledJob's name from free text: "Runner group 1" is
// runner-group-1. Nothing is cut, so that distinct names stay distinct.
func (r *reader) name(node, group *yaml.Node, path string) string {
	text, ok := r.text(node, path)
	if !ok {
		if node == nil {
			r.missing(group, path, "a name for the group")
		}
		return ""
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(text), "-"), "-")
	if name == "" || len(name) > maxName {
		r.add(node, path, text, fmt.Sprintf("a text with 1 to %d letters and digits", maxName))
		return ""
	}
	return name
}

// adopt takes over a RunnerGroup's faults with the file's paths and lines.
func (r *reader) adopt(err error, fields map[string]*yaml.Node, group *yaml.Node, path string) {
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // Validate joins, and wraps nothing around it
	if !ok {
		return
	}
	for _, err := range joined.Unwrap() {
		var f *ConfigError
		if !errors.As(err, &f) {
			continue
		}
		at := group
		if node := fields[f.Path[:endOfKey(f.Path)]]; node != nil {
			at = node
		}
		r.faults = append(r.faults, &ConfigError{Line: at.Line, Path: path + "." + f.Path, Given: f.Given, Accepted: f.Accepted})
	}
}

// endOfKey is where a path's first key ends.
func endOfKey(path string) int {
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return end
	}
	return len(path)
}

func (r *reader) err() error {
	slices.SortStableFunc(r.faults, func(a, b *ConfigError) int { return a.Line - b.Line })
	errs := make([]error, len(r.faults))
	for i, f := range r.faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
