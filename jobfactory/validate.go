package jobfactory

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

const (
	maxPolling = time.Hour
	maxGrace   = 7 * 24 * time.Hour
)

// Validate reports every fault at once. They are *ConfigErrors whose paths are the
// configuration file's keys within a group.
func (g RunnerGroup) Validate() error {
	return append(faults(g.TriggerFaults()), g.ManifestFaults()...).err()
}

// TriggerFaults returns what the scaler would refuse of the trigger's metadata.
func (g RunnerGroup) TriggerFaults() []*ConfigError {
	var invalid *runnergroup.InvalidError
	_, err := runnergroup.Parse(g.Group.Metadata())
	if !errors.As(err, &invalid) {
		return nil
	}
	all := make([]*ConfigError, len(invalid.Faults))
	for i, f := range invalid.Faults {
		all[i] = &ConfigError{Path: ConfigPath(f.Key), Given: f.Given, Accepted: f.Accepted}
	}
	return all
}

// ManifestFaults returns the faults of everything but the trigger's metadata.
func (g RunnerGroup) ManifestFaults() []*ConfigError {
	var f faults
	g.validateManifest(&f)
	// What is refused by then must not be reported for pod_template as well.
	g.Volumes = slices.DeleteFunc(slices.Clone(g.Volumes), func(v corev1.Volume) bool { return slices.Contains(ownVolumes, v.Name) })
	g.Env = slices.DeleteFunc(slices.Clone(g.Env), func(v corev1.EnvVar) bool { return ReservedVariable(v.Name) })
	g.DockerArgs = nil
	g.Docker = g.Docker && g.Group.OS != LinuxShell
	_, template := podTemplate(g)
	return slices.Concat(f, template)
}

func (g RunnerGroup) validateManifest(f *faults) {
	if len(validation.IsDNS1123Label(g.Name)) > 0 || len(g.Name) > MaxName {
		f.add("name", g.Name, fmt.Sprintf("at most %d lower-case letters, digits and dashes", MaxName))
	}
	switch {
	case g.Namespace == ControlPlaneNamespace:
		f.add("namespace", g.Namespace, "another namespace: this one is the control plane's, which has the credentials")
	case g.Namespace == IncumbentNamespace:
		f.add("namespace", g.Namespace, "another namespace: this one is that of Atlassian's runners-autoscaler, which has the credentials")
	case ReservedNamespace(g.Namespace):
		f.add("namespace", g.Namespace, "another namespace: this one is Kubernetes' own")
	case len(validation.IsDNS1123Label(g.Namespace)) > 0:
		f.add("namespace", g.Namespace, "the name of a namespace: at most 63 lower-case letters, digits and dashes")
	}
	if !ValidAddress(g.ScalerAddress) {
		f.add("scaler_address", g.ScalerAddress, "host:port")
	}
	if d := g.PollingInterval; d < time.Second || d > maxPolling || d%time.Second != 0 {
		f.add("polling_interval", d.String(), "whole seconds from 1s to 1h")
	}
	if d := g.GracePeriod; d < 0 || d > maxGrace || d%time.Second != 0 {
		f.add("grace_period", d.String(), "whole seconds from 0s to 168h")
	}
	if len(g.Entrypoint) == 0 || g.Entrypoint[0] == "" {
		f.add("entrypoint", strings.Join(g.Entrypoint, " "), "a command and its arguments")
	}
	if g.Docker && g.Group.OS == LinuxShell {
		f.add("docker", "true", "false with os "+LinuxShell+": its steps run in the runner's container")
	}
	for i, argument := range g.DockerArgs {
		if _, host := daemonHost(g.DockerArgs, i); host || strings.HasPrefix(argument, "--tls") {
			f.add(fmt.Sprintf("docker_args[%d]", i), argument, "no host and no TLS: the daemon listens on its socket only")
		}
	}
	g.validateImages(f)
	validateResources(f, "resources", g.Resources)
	validateResources(f, "docker_resources", g.DockerResources)
	g.validatePlacement(f)
	g.validatePod(f)
}

// ReservedNamespace reports whether runner groups are refused in a namespace: it is
// the control plane's or the runners-autoscaler's, or one of Kubernetes' own, where a privileged pod would run
// next to the cluster's components.
func ReservedNamespace(name string) bool {
	return slices.Contains([]string{ControlPlaneNamespace, IncumbentNamespace, "kube-system", "kube-public", "kube-node-lease"}, name)
}

// ValidAddress reports whether an address is host:port.
func ValidAddress(address string) bool {
	host, port, err := net.SplitHostPort(address)
	return err == nil && host != "" && port != "" && !strings.ContainsAny(host, " /")
}

func (g RunnerGroup) validateImages(f *faults) {
	images := map[string]string{"images.runner": g.Images.Runner, "images.sidecar": g.Images.Sidecar}
	if g.Docker {
		images["images.docker"] = g.Images.Docker
	}
	for _, path := range slices.Sorted(maps.Keys(images)) {
		if image := images[path]; image == "" || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r > '~' }) {
			f.add(path, image, "an image reference such as registry/name:tag")
		}
	}
}

func validateResources(f *faults, path string, r corev1.ResourceRequirements) {
	var found faults
	for kind, list := range map[string]corev1.ResourceList{"requests": r.Requests, "limits": r.Limits} {
		for name, amount := range list {
			if amount.Sign() < 0 {
				found.add(fmt.Sprintf("%s.%s.%s", path, kind, name), amount.String(), "an amount that is not negative")
			}
			if len(validation.IsQualifiedName(string(name))) > 0 {
				found.add(path+"."+kind, string(name), "names of resources such as cpu or memory")
			}
		}
	}
	for name, request := range r.Requests {
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			found.add(fmt.Sprintf("%s.requests.%s", path, name), request.String(), "at most the limit, which is "+limit.String())
		}
	}
	slices.SortFunc(found, func(a, b *ConfigError) int { return strings.Compare(a.Error(), b.Error()) })
	*f = append(*f, found...)
}

func (g RunnerGroup) validatePlacement(f *faults) {
	for _, key := range slices.Sorted(maps.Keys(g.NodeSelector)) {
		value := g.NodeSelector[key]
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			f.add("node_selector", key+": "+value, "labels of nodes")
		}
		if want := architectureOf(g.Group.OS); key == corev1.LabelArchStable && want != "" && value != want {
			f.add("node_selector."+key, value, "the group's architecture, which is "+want)
		}
	}
	for i, t := range g.Tolerations {
		path := fmt.Sprintf("tolerations[%d]", i)
		switch t.Operator {
		case "", corev1.TolerationOpEqual, corev1.TolerationOpExists:
		default:
			f.add(path+".operator", string(t.Operator), "Equal or Exists")
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			f.add(path+".effect", string(t.Effect), "NoSchedule, PreferNoSchedule or NoExecute")
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			f.add(path+".key", "", "a taint's key, or operator Exists")
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			f.add(path+".value", t.Value, "no value with operator Exists")
		}
	}
}
