package jobfactory

import (
	"errors"
	"fmt"
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
	before := len(r.faults)
	fields := r.object(node, path, names(groupKeys))
	g := NewRunnerGroup(r.name(fields["name"], node, path+".name"), runnergroup.Group{})
	if namespace := constants[namespaceConstant]; namespace != "" {
		g.Namespace = namespace
	}
	if r.template != nil {
		r.template.apply(&g)
	}
	g.Group = r.rules(fields, node, path, constants)
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
	r.pod(fields, path, &g)
	if len(r.faults) == before { // what could not be read is not blamed twice
		r.adopt(g.Validate(), fields, node, path)
	}
	return g
}

// rules reads what goes into the trigger's metadata, by the same parser that the
// scaler uses.
func (r *reader) rules(fields map[string]*yaml.Node, node *yaml.Node, path string, constants map[string]string) runnergroup.Group {
	before := len(r.faults)
	metadata := r.texts(fields["parameters"], path+".parameters", names(parameterKeys))
	if metadata == nil {
		metadata = map[string]string{}
	}
	for key, value := range metadata {
		if value == "" { // the scaler would take it for not given
			r.add(valueOf(fields["parameters"], key), path+".parameters."+key, value, "a value, or no such key")
		}
	}
	if _, given := metadata["cool_down"]; !given && constants[coolDownConstant] != "" {
		metadata["cool_down"] = constants[coolDownConstant]
	}
	for _, key := range []string{"workspace", "repository", "strategy", "credentials", "os"} {
		if text, ok := r.text(fields[key], path+"."+key); ok {
			if metadata[key] = text; text == "" {
				r.add(fields[key], path+"."+key, text, "a value, or no such key")
			}
		}
	}
	r.mode(fields, path, metadata)
	for _, key := range []string{"labels", "repositories"} {
		metadata[key] = strings.Join(r.items(fields[key], path+"."+key), ",")
	}
	if arch, ok := r.text(fields["architecture"], path+".architecture"); ok {
		if arch != archAMD && arch != archARM {
			r.add(fields["architecture"], path+".architecture", arch, archAMD+" or "+archARM)
		}
		system := map[string]string{archAMD: "linux", archARM: linuxARM}[arch]
		if given, ok := metadata["os"]; ok && given != system {
			r.add(fields["os"], path+".os", given, "what the architecture "+arch+" means, which is "+system+", or one of the two keys alone")
		}
		metadata["os"] = system
	}
	unreadable := len(r.faults) > before
	group, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if errors.As(err, &invalid) {
		for _, f := range invalid.Faults {
			key := configPath(f.Key)
			if key == "architecture" && fields["os"] != nil {
				key = "os"
			}
			at, name := fields[key], key
			if parameter, ok := strings.CutPrefix(key, "parameters."); ok {
				at = valueOf(fields["parameters"], parameter)
				if at == nil && parameter == "count" {
					at = valueOf(fields["parameters"], runnersCount)
				}
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
		f.Path = r.spelled(f.Path)
		errs[i] = f
	}
	return errors.Join(errs...)
}
