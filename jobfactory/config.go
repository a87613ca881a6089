package jobfactory

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// Config is what a configuration file, a runners_config.yaml, says.
type Config struct {
	// Groups in the file's order, valid, names distinct within a namespace.
	Groups []RunnerGroup
	// Notes tell of keys that are read and have no effect.
	Notes []string
}

// ReadConfig reads a configuration file: `groups`, and optionally `constants`. It
// takes both forms of Atlassian's runners-autoscaler: the snake_case one, and the
// older one with `config`, `type` and keys in camelCase. Unknown keys are refused.
// The error joins every *ConfigError, in the order of lines, with the keys as the
// file spells them.
func ReadConfig(data []byte) (Config, error) { return ReadConfigOn(data, nil) }

// ReadConfigOn is ReadConfig with the groups' defaults from a job template; nil is
// none. The template's notes are the first ones.
func ReadConfigOn(data []byte, template *JobTemplate) (Config, error) {
	root, moved, err := parse(data)
	if err != nil {
		return Config{}, err
	}
	r := &reader{template: template}
	if template != nil {
		moved = append(slices.Clone(template.Notes), moved...)
	}
	file := r.object(root, "", names(fileKeys))
	constants := r.texts(file["constants"], "constants", names(constantKeys))
	config := Config{Notes: append(moved, notes(constants)...)}
	list, groups := r.groups(file, root)
	taken := map[string]string{}
	for i, node := range groups {
		path := fmt.Sprintf("%s[%d]", list, i)
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

// group reads one group; its faults are the reader's.
func (r *reader) group(node *yaml.Node, path string, constants map[string]string) RunnerGroup {
	fields := r.object(node, path, names(groupKeys))
	g := NewRunnerGroup(r.name(fields["name"], node, path+".name"), runnergroup.Group{})
	if namespace := constants[namespaceConstant]; namespace != "" {
		g.Namespace = namespace
	}
	if r.template != nil {
		r.template.apply(&g)
	}
	var known bool
	g.Group, known = r.rules(fields, node, path, constants)
	into := func(value *string, key string) {
		if text, ok := r.text(fields[key], path+"."+key); ok {
			*value = text
		}
	}
	into(&g.Namespace, "namespace")
	into(&g.ScalerAddress, "scaler_address")
	images := r.texts(fields["images"], path+".images", names(imageKeys))
	for name, image := range map[string]*string{"runner": &g.Images.Runner, "sidecar": &g.Images.Sidecar, "docker": &g.Images.Docker} {
		if given, ok := images[name]; ok {
			*image = given
		}
	}
	r.resources(fields["resources"], path+".resources", &g.Resources)
	r.resources(fields["docker_resources"], path+".docker_resources", &g.DockerResources)
	if mirror, ok := r.text(fields["image_mirror"], path+".image_mirror"); ok {
		g.ImageMirror = mirror
		for name, image := range map[string]*string{"runner": &g.Images.Runner, "docker": &g.Images.Docker} {
			if _, given := images[name]; !given {
				*image = mirrored(mirror, *image)
			}
		}
	}
	if fields["node_selector"] != nil {
		g.NodeSelector = r.texts(fields["node_selector"], path+".node_selector", nil)
	}
	if items := r.list(fields["entrypoint"], path+".entrypoint"); fields["entrypoint"] != nil {
		g.Entrypoint = r.strings(items, path+".entrypoint")
	}
	r.duration(fields["polling_interval"], path+".polling_interval", &g.PollingInterval)
	r.duration(fields["grace_period"], path+".grace_period", &g.GracePeriod)
	r.boolean(fields["tls"], path+".tls", &g.TLS)
	r.boolean(fields["docker"], path+".docker", &g.Docker)
	if r.template != nil {
		r.template.overlay(&g)
	}
	r.pod(fields, path, &g)
	faults := g.manifestFaults()
	if known {
		faults = append(faults, g.groupFaults()...)
	}
	r.adopt(configErrors(faults), path, node, func(key string) *yaml.Node { return fields[key[:endOfKey(key)]] })
	return g
}

// unreadable stands for a value that was refused already: the scaler's parser
// refuses it again, and makes nothing of its absence.
const unreadable = "?"

// rules reads what goes into the trigger's metadata, by the same parser that the
// scaler uses; known says whether it took it.
func (r *reader) rules(fields map[string]*yaml.Node, node *yaml.Node, path string, constants map[string]string) (group runnergroup.Group, known bool) {
	metadata := r.parameters(fields["parameters"], path+".parameters")
	if _, given := metadata["cool_down"]; !given && constants[coolDownConstant] != "" {
		metadata["cool_down"] = constants[coolDownConstant]
	}
	for _, key := range []string{"workspace", "repository", "strategy", "credentials", "os"} {
		text, ok := r.text(fields[key], path+"."+key)
		switch {
		case ok && text == "":
			r.add(fields[key], path+"."+key, text, "a value, or no such key")
		case ok:
			metadata[key] = text
		case fields[key] != nil:
			metadata[key] = unreadable
		}
	}
	r.mode(fields, path, metadata)
	for _, key := range []string{"labels", "repositories"} {
		metadata[key] = strings.Join(r.items(fields[key], path+"."+key), ",")
	}
	r.architecture(fields, path, metadata)
	group, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if !errors.As(err, &invalid) {
		return group, true
	}
	faults := make([]*ConfigError, len(invalid.Faults))
	for i, f := range invalid.Faults {
		key := configPath(f.Key)
		if key == "architecture" && fields["os"] != nil {
			key = "os"
		}
		faults[i] = &ConfigError{Path: key, Given: f.Given, Accepted: f.Accepted}
	}
	r.adopt(faults, path, node, func(key string) *yaml.Node {
		parameter, ok := strings.CutPrefix(key, "parameters.")
		if !ok {
			return fields[key]
		}
		at := valueOf(fields["parameters"], parameter)
		if at == nil && parameter == "count" {
			at = valueOf(fields["parameters"], runnersCount)
		}
		return at
	})
	return runnergroup.Group{OS: metadata["os"]}, false // the architecture is the pod's too
}

// parameters reads the scaling rules as the trigger's metadata.
func (r *reader) parameters(node *yaml.Node, path string) map[string]string {
	metadata := map[string]string{}
	fields := r.object(node, path, names(parameterKeys))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		text, ok := r.text(value, path+"."+key)
		switch {
		case ok && text == "": // the scaler would take it for not given
			r.add(value, path+"."+key, text, "a value, or no such key")
		case ok:
			metadata[key] = text
		default:
			metadata[key] = unreadable
		}
	}
	return metadata
}

// architecture reads the node's name of the system that Bitbucket knows the
// runners by.
func (r *reader) architecture(fields map[string]*yaml.Node, path string, metadata map[string]string) {
	arch, ok := r.text(fields["architecture"], path+".architecture")
	if !ok {
		return
	}
	system := map[string]string{archAMD: "linux", archARM: linuxARM}[arch]
	given, both := metadata["os"]
	switch {
	case system == "":
		r.add(fields["architecture"], path+".architecture", arch, archAMD+" or "+archARM)
		return
	case both && given != system && !r.follows(path+".os"):
		r.add(fields["os"], path+".os", given, "what the architecture "+arch+" means, which is "+system+", or one of the two keys alone")
	}
	metadata["os"] = system
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

// endOfKey is where a path's first key ends.
func endOfKey(path string) int {
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return end
	}
	return len(path)
}
