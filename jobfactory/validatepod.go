package jobfactory

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// validatePod checks the fields that go into the pod's spec unchanged.
func (g RunnerGroup) validatePod(f *faults) {
	switch g.PullPolicy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		f.add("image_pull_policy", string(g.PullPolicy), "Always, IfNotPresent or Never")
	}
	if m := g.ImageMirror; m != "" && (strings.Contains(m, "://") || strings.HasPrefix(m, "/")) {
		f.add("image_mirror", m, "a registry and a path within it, such as mirror.example.com/builds")
	}
	named := func(path, name, what string) {
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			f.add(path, name, "the name of a "+what)
		}
	}
	if g.PriorityClass != "" {
		named("priority_class", g.PriorityClass, "PriorityClass")
	}
	for i, secret := range g.PullSecrets {
		named(fmt.Sprintf("image_pull_secrets[%d]", i), secret, "Secret")
	}
	validateProxy(f, "proxy.http", g.Proxy.HTTP)
	validateProxy(f, "proxy.https", g.Proxy.HTTPS)
	g.validateEnv(f)
	g.validateVolumes(f)
}

func validateProxy(f *faults, path, proxy string) {
	u, err := url.Parse(proxy)
	switch {
	case proxy == "":
	case err == nil && u.User != nil: // not shown, because it is a secret
		*f = append(*f, &ConfigError{Path: path, Accepted: "has credentials, want none: anyone who may read the ScaledJob could read them"})
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5":
		f.add(path, proxy, "a URL such as http://proxy.example.com:3128")
	}
}

func (g RunnerGroup) validateEnv(f *faults) {
	seen := map[string]bool{}
	for i, v := range g.Env {
		path := fmt.Sprintf("env[%d].name", i)
		switch {
		case len(validation.IsEnvVarName(v.Name)) > 0:
			f.add(path, v.Name, "the name of a variable")
		case ReservedVariable(v.Name):
			f.add(path, v.Name, "another name: the sidecar sets this variable")
		case seen[v.Name]:
			f.add(path, v.Name, "each name once")
		}
		seen[v.Name] = true
	}
}

func (g RunnerGroup) validateVolumes(f *faults) {
	known := map[string]bool{}
	for i, v := range g.Volumes {
		path := fmt.Sprintf("volumes[%d].name", i)
		switch {
		case len(validation.IsDNS1123Label(v.Name)) > 0:
			f.add(path, v.Name, "a name of at most 63 lower-case letters, digits and dashes")
		case slices.Contains(ownVolumes, v.Name):
			f.add(path, v.Name, "another name than "+strings.Join(ownVolumes, ", ")+", which are the pod's own volumes")
		case known[v.Name]:
			f.add(path, v.Name, "each name once")
		}
		known[v.Name] = true
	}
	mounts := func(key string, own, mounts []corev1.VolumeMount) {
		for i, m := range mounts {
			path := fmt.Sprintf("%s[%d]", key, i)
			if !known[m.Name] {
				f.add(path+".name", m.Name, "the name of one of the group's volumes")
			}
			switch {
			case !strings.HasPrefix(m.MountPath, "/") || strings.Contains(m.MountPath, ":"):
				f.add(path+".mountPath", m.MountPath, "an absolute path")
			case slices.ContainsFunc(own, func(o corev1.VolumeMount) bool { return MountHides(o.MountPath, m.MountPath) }):
				f.add(path+".mountPath", m.MountPath, "a path that does not overlap with another mount of the container")
			}
			own = append(own, m)
		}
	}
	mounts("volume_mounts", append(buildMounts(true), corev1.VolumeMount{MountPath: SharedDir}), g.VolumeMounts)
	mounts("docker_volume_mounts", buildMounts(false), g.DockerVolumeMounts)
}
