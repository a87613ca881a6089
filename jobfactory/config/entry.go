package config

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/jobfactory"
)

// entry is one group of the file. Its methods take a key of the group.
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

// into replaces a default if the key is given.
func (e entry) into(value *string, key string) {
	if text, ok := e.textOf(key); ok {
		*value = text
	}
}

// group reads the whole group. The reader collects its faults.
func (e entry) group(constants map[string]string) jobfactory.RunnerGroup {
	g := jobfactory.NewRunnerGroup(e.name(), runnergroup.Group{})
	if namespace := constants[namespaceConstant]; namespace != "" {
		g.Namespace = namespace
	}
	if e.template != nil {
		e.template.SetDefaults(&g)
	}
	var valid bool
	g.Group, valid = e.trigger(constants)
	g.Docker = g.Group.OS != jobfactory.LinuxShell
	e.into(&g.Namespace, "namespace")
	e.into(&g.ScalerAddress, "scaler_address")
	e.images(&g)
	e.resources(e.fields["resources"], e.at("resources"), &g.Resources)
	e.resources(e.fields["docker_resources"], e.at("docker_resources"), &g.DockerResources)
	if e.given("node_selector") {
		g.NodeSelector = e.textsOf("node_selector", nil)
	}
	e.shellArchitecture(&g)
	if e.given("entrypoint") {
		g.Entrypoint = e.stringsOf("entrypoint")
	}
	e.duration(e.fields["polling_interval"], e.at("polling_interval"), &g.PollingInterval)
	e.duration(e.fields["grace_period"], e.at("grace_period"), &g.GracePeriod)
	e.boolean(e.fields["tls"], e.at("tls"), &g.TLS)
	e.boolean(e.fields["docker"], e.at("docker"), &g.Docker)
	if e.given("docker_args") {
		g.DockerArgs = e.stringsOf("docker_args")
	}
	if e.template != nil {
		e.template.AddPatch(&g)
	}
	e.pod(&g)
	faults := g.ManifestFaults()
	if valid {
		faults = append(faults, g.TriggerFaults()...)
	}
	e.addGroupFaults(faults, e.path, e.node, func(key string) *yaml.Node { return e.fields[key[:endOfKey(key)]] })
	return g
}

// images reads the images' references. A mirror replaces the registry of the images
// that are not given.
func (e entry) images(g *jobfactory.RunnerGroup) {
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

// unreadable replaces a value that is refused already. The scaler's parser refuses it
// too, but does not report that it is missing.
const unreadable = "?"

// trigger reads the trigger's metadata with the scaler's own parser. valid is false
// if the parser refuses it.
func (e entry) trigger(constants map[string]string) (group runnergroup.Group, valid bool) {
	metadata := e.parameters()
	if _, given := metadata["cool_down"]; !given && constants[coolDownConstant] != "" {
		metadata["cool_down"] = constants[coolDownConstant]
	}
	for _, key := range []string{"workspace", "repository", "strategy", "credentials", "os"} {
		text, ok := e.textOf(key)
		switch {
		case ok && text == "":
			e.add(e.fields[key], e.at(key), text, "a value, or leave the key out")
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
	if e.given("schedules") {
		metadata["schedules"] = e.schedules()
	}
	e.architecture(metadata)
	group, err := runnergroup.Parse(metadata)
	var invalid *runnergroup.InvalidError
	if !errors.As(err, &invalid) {
		return group, true
	}
	faults := make([]*jobfactory.ConfigError, len(invalid.Faults))
	for i, f := range invalid.Faults {
		key := jobfactory.ConfigPath(f.Key)
		if key == "architecture" && e.fields["os"] != nil {
			key = "os"
		}
		faults[i] = &jobfactory.ConfigError{Path: key, Given: f.Given, Accepted: f.Accepted}
	}
	e.addGroupFaults(faults, e.path, e.node, func(key string) *yaml.Node {
		parameter, ok := strings.CutPrefix(key, "parameters.")
		if !ok {
			return e.place(key)
		}
		at := valueOf(e.fields["parameters"], parameter)
		if at == nil && parameter == "count" {
			at = valueOf(e.fields["parameters"], runnersCount)
		}
		return at
	})
	return runnergroup.Group{OS: metadata["os"]}, false // the pod needs the architecture too
}

// parameters reads the scaling rules for the trigger's metadata.
func (e entry) parameters() map[string]string {
	metadata, path := map[string]string{}, e.at("parameters")
	fields := e.object(e.fields["parameters"], path, names(parameterKeys))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		value := fields[key]
		text, ok := e.text(value, path+"."+key)
		switch {
		case ok && text == "": // the scaler would treat it as not given
			e.add(value, path+"."+key, text, "a value, or leave the key out")
		case ok:
			metadata[key] = text
		default:
			metadata[key] = unreadable
		}
	}
	return metadata
}

// architecture reads the nodes' architecture, which determines the OS that the
// runners have in Bitbucket.
func (e entry) architecture(metadata map[string]string) {
	arch, ok := e.textOf("architecture")
	if !ok {
		return
	}
	system := map[string]string{jobfactory.AMD64: jobfactory.Linux, jobfactory.ARM64: jobfactory.LinuxARM}[arch]
	given, both := metadata["os"]
	switch {
	case system == "":
		e.add(e.fields["architecture"], e.at("architecture"), arch, jobfactory.AMD64+" or "+jobfactory.ARM64)
		return
	case both && given == jobfactory.LinuxShell: // of any architecture
		return
	case both && given != system && !e.isConsequence(e.at("os")):
		e.add(e.fields["os"], e.at("os"), given, system+", as architecture "+arch+" requires, or only one of the two keys")
	}
	metadata["os"] = system
}

// shellArchitecture selects the nodes of a group whose OS does not say the architecture.
func (e entry) shellArchitecture(g *jobfactory.RunnerGroup) {
	arch, ok := e.textOf("architecture")
	if !ok || g.Group.OS != jobfactory.LinuxShell || arch != jobfactory.AMD64 && arch != jobfactory.ARM64 {
		return
	}
	if selected, both := g.NodeSelector[corev1.LabelArchStable]; both && selected != arch {
		e.add(e.fields["architecture"], e.at("architecture"), arch, selected+", as node_selector says, or only one of the two keys")
		return
	}
	g.NodeSelector = maps.Clone(g.NodeSelector)
	if g.NodeSelector == nil {
		g.NodeSelector = map[string]string{}
	}
	g.NodeSelector[corev1.LabelArchStable] = arch
}

// endOfKey returns the index at which a path's first key ends.
func endOfKey(path string) int {
	if end := strings.IndexAny(path, ".["); end >= 0 {
		return end
	}
	return len(path)
}
