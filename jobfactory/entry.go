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

// entry is one group of the file. Every method takes a key of the group's.
type entry struct {
	*reader
	node   *yaml.Node
	path   string
	fields map[string]*yaml.Node
}

func (r *reader) entry(node *yaml.Node, path string) entry {
	return entry{reader: r, node: node, path: path, fields: r.object(node, path, names(groupKeys))}
}

func (e entry) at(key string) string { return e.path + "." + key }

func (e entry) given(key string) bool { return e.fields[key] != nil }

func (e entry) textOf(key string) (string, bool) { return e.text(e.fields[key], e.at(key)) }

func (e entry) textsOf(key string, known []string) map[string]string {
	return e.texts(e.fields[key], e.at(key), known)
}

func (e entry) stringsOf(key string) []string {
	return e.strings(e.list(e.fields[key], e.at(key)), e.at(key))
}

// into puts a text where its default is.
func (e entry) into(value *string, key string) {
	if text, ok := e.textOf(key); ok {
		*value = text
	}
}

// group reads it all; its faults are the reader's.
func (e entry) group(constants map[string]string) RunnerGroup {
	g := NewRunnerGroup(e.name(), runnergroup.Group{})
	if namespace := constants[namespaceConstant]; namespace != "" {
		g.Namespace = namespace
	}
	if e.template != nil {
		e.template.apply(&g)
	}
	var known bool
	g.Group, known = e.rules(constants)
	e.into(&g.Namespace, "namespace")
	e.into(&g.ScalerAddress, "scaler_address")
	e.images(&g)
	e.resources(e.fields["resources"], e.at("resources"), &g.Resources)
	e.resources(e.fields["docker_resources"], e.at("docker_resources"), &g.DockerResources)
	if e.given("node_selector") {
		g.NodeSelector = e.textsOf("node_selector", nil)
	}
	if e.given("entrypoint") {
		g.Entrypoint = e.stringsOf("entrypoint")
	}
	e.duration(e.fields["polling_interval"], e.at("polling_interval"), &g.PollingInterval)
	e.duration(e.fields["grace_period"], e.at("grace_period"), &g.GracePeriod)
	e.boolean(e.fields["tls"], e.at("tls"), &g.TLS)
	e.boolean(e.fields["docker"], e.at("docker"), &g.Docker)
	if e.template != nil {
		e.template.overlay(&g)
	}
	e.pod(&g)
	faults := g.manifestFaults()
	if known {
		faults = append(faults, g.groupFaults()...)
	}
	e.adopt(configErrors(faults), e.path, e.node, func(key string) *yaml.Node { return e.fields[key[:endOfKey(key)]] })
	return g
}

// images reads their references. A mirror takes the place of the registry of those
// that are not named.
func (e entry) images(g *RunnerGroup) {
	images := e.textsOf("images", names(imageKeys))
	into := map[string]*string{"runner": &g.Images.Runner, "sidecar": &g.Images.Sidecar, "docker": &g.Images.Docker}
	for name, image := range into {
		if given, ok := images[name]; ok {
			*image = given
		}
	}
	mirror, ok := e.textOf("image_mirror")
	if !ok {
		return
	}
	g.ImageMirror = mirror
	for _, name := range []string{"runner", "docker"} {
		if _, given := images[name]; !given {
			*into[name] = mirrored(mirror, *into[name])
		}
	}
}

// unreadable stands for a value that was refused already: the scaler's parser
// refuses it again, and makes nothing of its absence.
const unreadable = "?"

// rules reads what goes into the trigger's metadata, by the same parser that the
// scaler uses; known says whether it took it.
func (e entry) rules(constants map[string]string) (group runnergroup.Group, known bool) {
	metadata := e.parameters()
	if _, given := metadata["cool_down"]; !given && constants[coolDownConstant] != "" {
		metadata["cool_down"] = constants[coolDownConstant]
	}
	for _, key := range []string{"workspace", "repository", "strategy", "credentials", "os"} {
		text, ok := e.textOf(key)
		switch {
		case ok && text == "":
			e.add(e.fields[key], e.at(key), text, "a value, or no such key")
		case ok:
			metadata[key] = text
		case e.fields[key] != nil:
			metadata[key] = unreadable
		}
	}
	e.mode(metadata)
	for _, key := range []string{"labels", "repositories"} {
		metadata[key] = strings.Join(e.items(e.fields[key], e.at(key)), ",")
	}
	e.architecture(metadata)
	group, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if !errors.As(err, &invalid) {
		return group, true
	}
	faults := make([]*ConfigError, len(invalid.Faults))
	for i, f := range invalid.Faults {
		key := ConfigPath(f.Key)
		if key == "architecture" && e.fields["os"] != nil {
			key = "os"
		}
		faults[i] = &ConfigError{Path: key, Given: f.Given, Accepted: f.Accepted}
	}
	e.adopt(faults, e.path, e.node, func(key string) *yaml.Node {
		parameter, ok := strings.CutPrefix(key, "parameters.")
		if !ok {
			return e.fields[key]
		}
		at := valueOf(e.fields["parameters"], parameter)
		if at == nil && parameter == "count" {
			at = valueOf(e.fields["parameters"], runnersCount)
		}
		return at
	})
	return runnergroup.Group{OS: metadata["os"]}, false // the architecture is the pod's too
}

// parameters reads the scaling rules as the trigger's metadata.
func (e entry) parameters() map[string]string {
	metadata, path := map[string]string{}, e.at("parameters")
	fields := e.object(e.fields["parameters"], path, names(parameterKeys))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		text, ok := e.text(value, path+"."+key)
		switch {
		case ok && text == "": // the scaler would take it for not given
			e.add(value, path+"."+key, text, "a value, or no such key")
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
func (e entry) architecture(metadata map[string]string) {
	arch, ok := e.textOf("architecture")
	if !ok {
		return
	}
	system := map[string]string{archAMD: "linux", archARM: linuxARM}[arch]
	given, both := metadata["os"]
	switch {
	case system == "":
		e.add(e.fields["architecture"], e.at("architecture"), arch, archAMD+" or "+archARM)
		return
	case both && given != system && !e.follows(e.at("os")):
		e.add(e.fields["os"], e.at("os"), given, "what the architecture "+arch+" means, which is "+system+", or one of the two keys alone")
	}
	metadata["os"] = system
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// name makes a ScaledJob's name from free text: "Runner group 1" is
// runner-group-1. Nothing is cut, so that distinct names stay distinct.
func (e entry) name() string {
	text, ok := e.textOf("name")
	if !ok {
		if !e.given("name") {
			e.missing(e.node, e.at("name"), "a name for the group")
		}
		return ""
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(text), "-"), "-")
	if name == "" || len(name) > maxName {
		e.add(e.fields["name"], e.at("name"), text, fmt.Sprintf("a text with 1 to %d letters and digits", maxName))
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
