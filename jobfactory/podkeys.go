package jobfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	strict "sigs.k8s.io/json"
)

// Proxy is how the runner and the Docker daemon reach the world. The sidecar
// speaks with the scaler alone and needs none.
type Proxy struct {
	// HTTP and HTTPS are URLs without credentials, which would stand in the pod's
	// spec; None the hosts that are reached without a proxy, comma separated.
	HTTP, HTTPS, None string
}

// env has both spellings: programs differ in which one they read.
func (p Proxy) env() []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, v := range []corev1.EnvVar{{Name: "HTTP_PROXY", Value: p.HTTP}, {Name: "HTTPS_PROXY", Value: p.HTTPS}, {Name: "NO_PROXY", Value: p.None}} {
		if v.Value != "" {
			env = append(env, v, corev1.EnvVar{Name: strings.ToLower(v.Name), Value: v.Value})
		}
	}
	return env
}

// pod reads the keys that are Kubernetes' own.
func (e entry) pod(g *RunnerGroup) {
	e.into(&g.PriorityClass, "priority_class")
	e.into((*string)(&g.PullPolicy), "image_pull_policy")
	if e.given("image_pull_secrets") {
		g.PullSecrets = e.stringsOf("image_pull_secrets")
	}
	if e.given("affinity") {
		g.Affinity = &corev1.Affinity{}
		e.typed(e.fields["affinity"], e.at("affinity"), g.Affinity)
	}
	g.Tolerations = typedItems(e, "tolerations", g.Tolerations)
	g.Env = typedItems(e, "env", g.Env)
	g.Volumes = typedItems(e, "volumes", g.Volumes)
	g.VolumeMounts = typedItems(e, "volume_mounts", g.VolumeMounts)
	g.DockerVolumeMounts = typedItems(e, "docker_volume_mounts", g.DockerVolumeMounts)
	proxy := e.textsOf("proxy", names(proxyKeys))
	g.Proxy = Proxy{HTTP: proxy["http"], HTTPS: proxy["https"], None: proxy["no_proxy"]}
	if e.given("pod_template") {
		if patch := e.json(e.fields["pod_template"], e.at("pod_template")); patch != nil {
			g.PodTemplates = append(g.PodTemplates, patch)
		}
	}
}

// typedItems reads a list of a Kubernetes type in its own spelling.
func typedItems[T any](e entry, key string, none []T) []T {
	if !e.given(key) {
		return none
	}
	nodes := e.list(e.fields[key], e.at(key))
	items := make([]T, len(nodes))
	for i, item := range nodes {
		e.typed(item, fmt.Sprintf("%s[%d]", e.at(key), i), &items[i])
	}
	return items
}

// typed reads a Kubernetes type and refuses keys that it does not have.
func (r *reader) typed(node *yaml.Node, path string, into any) {
	data := r.json(node, path)
	if data == nil {
		return
	}
	for _, f := range decodeFaults(data, path, into) {
		f.Line = node.Line
		r.faults = append(r.faults, f)
		r.refuse(f.Path)
	}
}

// json is a mapping as JSON; nil where it is none, with a fault.
func (r *reader) json(node *yaml.Node, path string) json.RawMessage {
	resolved := given(node)
	if resolved == nil || resolved.Kind != yaml.MappingNode {
		if resolved == nil {
			r.add(node, path, "null", "a mapping of keys to values")
		} else {
			r.add(node, path, describe(resolved), "a mapping of keys to values")
		}
		return nil
	}
	var value map[string]any
	if err := resolved.Decode(&value); err != nil {
		r.add(node, path, describe(resolved), "a mapping that YAML can resolve: "+err.Error())
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil || len(data) > maxFile {
		r.add(node, path, describe(resolved), fmt.Sprintf("a mapping of texts, numbers and their lists, of at most %d bytes", maxFile))
		return nil
	}
	return data
}

var (
	unknownField   = regexp.MustCompile(`^unknown field "(.+)"$`)
	duplicateField = regexp.MustCompile(`^duplicate field "(.+)"$`)
)

// decodeFaults decodes JSON into a Kubernetes type: keys in its very spelling.
func decodeFaults(data []byte, path string, into any) []*ConfigError {
	unknown, err := strict.UnmarshalStrict(data, into)
	var faults []*ConfigError
	for _, e := range unknown {
		if field := unknownField.FindStringSubmatch(e.Error()); field != nil {
			faults = append(faults, &ConfigError{Path: path + "." + field[1], Accepted: "unknown key, want those of Kubernetes"})
		} else if field := duplicateField.FindStringSubmatch(e.Error()); field != nil {
			faults = append(faults, &ConfigError{Path: path + "." + field[1], Accepted: "given twice, want it once"})
		}
	}
	var mistyped *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mistyped):
		faults = append(faults, fault(strings.TrimSuffix(path+"."+mistyped.Field, "."), "a "+mistyped.Value, "a value of type "+mistyped.Type.String()))
	case err != nil:
		faults = append(faults, &ConfigError{Path: path, Accepted: "want what Kubernetes has there: " + err.Error()})
	}
	return faults
}

// mirrored puts a mirror in the place of an image's registry.
func mirrored(mirror, image string) string {
	host, rest, found := strings.Cut(image, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		image = rest
	}
	return strings.TrimSuffix(mirror, "/") + "/" + image
}

// identity are the variables that `sidecar exec` gives the runner.
var identity = []string{
	"ACCOUNT_UUID", "REPOSITORY_UUID", "RUNNER_UUID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_TOKEN_ENDPOINT",
	"WORKING_DIRECTORY", "RUNTIME_PREREQUISITES_ENABLED",
}

// podFaults are those of the keys that go into the pod as they are.
func (g RunnerGroup) podFaults() []error {
	var faults []error
	add := func(path, given, accepted string) { faults = append(faults, fault(path, given, accepted)) }
	switch g.PullPolicy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		add("image_pull_policy", string(g.PullPolicy), "Always, IfNotPresent or Never")
	}
	if m := g.ImageMirror; m != "" && (strings.Contains(m, "://") || strings.HasPrefix(m, "/")) {
		add("image_mirror", m, "a registry and a path within it, such as mirror.example.com/builds")
	}
	named := func(path, name, what string) {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			add(path, name, "the name of a "+what)
		}
	}
	if g.PriorityClass != "" {
		named("priority_class", g.PriorityClass, "PriorityClass")
	}
	for i, secret := range g.PullSecrets {
		named(fmt.Sprintf("image_pull_secrets[%d]", i), secret, "Secret")
	}
	for _, proxy := range [][2]string{{"proxy.http", g.Proxy.HTTP}, {"proxy.https", g.Proxy.HTTPS}} {
		u, err := url.Parse(proxy[1])
		switch {
		case proxy[1] == "":
		case err == nil && u.User != nil: // not shown: it is a secret
			faults = append(faults, &ConfigError{Path: proxy[0], Accepted: "has credentials, want none: whoever may read the ScaledJob would read them"})
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
			add(proxy[0], proxy[1], "a URL such as http://proxy.example.com:3128")
		}
	}
	faults = append(faults, g.envFaults()...)
	return append(faults, g.volumeFaults()...)
}

func (g RunnerGroup) envFaults() []error {
	var faults []error
	seen := map[string]bool{}
	for i, v := range g.Env {
		path := fmt.Sprintf("env[%d].name", i)
		switch {
		case len(validation.IsEnvVarName(v.Name)) > 0:
			faults = append(faults, fault(path, v.Name, "the name of a variable"))
		case slices.Contains(identity, v.Name) || strings.HasPrefix(v.Name, "SIDECAR_"):
			faults = append(faults, fault(path, v.Name, "another one: the sidecar gives the runner this one"))
		case seen[v.Name]:
			faults = append(faults, fault(path, v.Name, "each name once"))
		}
		seen[v.Name] = true
	}
	return faults
}

func (g RunnerGroup) volumeFaults() []error {
	var faults []error
	known := map[string]bool{}
	for i, v := range g.Volumes {
		path := fmt.Sprintf("volumes[%d].name", i)
		switch {
		case len(validation.IsDNS1123Label(v.Name)) > 0:
			faults = append(faults, fault(path, v.Name, "a name of at most 63 lower-case letters, digits and dashes"))
		case slices.Contains(ownVolumes, v.Name):
			faults = append(faults, fault(path, v.Name, "another name than "+strings.Join(ownVolumes, ", ")+", which the pod has"))
		case known[v.Name]:
			faults = append(faults, fault(path, v.Name, "each name once"))
		}
		known[v.Name] = true
	}
	mounts := func(key string, own, mounts []corev1.VolumeMount) {
		for i, m := range mounts {
			path := fmt.Sprintf("%s[%d]", key, i)
			if !known[m.Name] {
				faults = append(faults, fault(path+".name", m.Name, "the name of one of the group's volumes"))
			}
			switch {
			case !strings.HasPrefix(m.MountPath, "/") || strings.Contains(m.MountPath, ":"):
				faults = append(faults, fault(path+".mountPath", m.MountPath, "an absolute path"))
			case slices.ContainsFunc(own, func(o corev1.VolumeMount) bool { return overlap(o.MountPath, m.MountPath) }):
				faults = append(faults, fault(path+".mountPath", m.MountPath, "a path that neither hides nor lies in another mount of the container"))
			}
			own = append(own, m)
		}
	}
	mounts("volume_mounts", append(buildMounts(true), corev1.VolumeMount{MountPath: SharedDir}), g.VolumeMounts)
	mounts("docker_volume_mounts", buildMounts(false), g.DockerVolumeMounts)
	return faults
}
