package jobfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// Defaults of a RunnerGroup.
const (
	// DefaultNamespace is where runner Jobs run if nothing else is said.
	DefaultNamespace = "bitbucket-runner"
	// ControlPlaneNamespace is the scaler's own. It holds the credentials, so no
	// builds run in it.
	ControlPlaneNamespace = "bitbucket-runner-control-plane"
	// DefaultScalerAddress is the Service of deploy/base.
	DefaultScalerAddress = "bitbucket-runner-scaler." + ControlPlaneNamespace + ".svc.cluster.local:9090"
	// DefaultRunnerImage is Atlassian's runner.
	DefaultRunnerImage = "docker-public.packages.atlassian.com/sox/atlassian/bitbucket-pipelines-runner:1"
	// DefaultSidecarImage is this project's image, which deploy/base renames.
	DefaultSidecarImage = "bitbucket-runner-scaler:latest"
	// DefaultDockerImage is the daemon that runs the steps.
	DefaultDockerImage = "docker:dind"
	// DefaultPollingInterval is KEDA's between two questions; the answers come from
	// the scaler's memory and cost Bitbucket nothing.
	DefaultPollingInterval = 5 * time.Second
	// DefaultGracePeriod lets a step of two hours, Bitbucket's default limit, end
	// before an evicted pod is killed.
	DefaultGracePeriod = 2*time.Hour + 10*time.Minute
)

// kubernetesNamespaces are those in which a privileged pod is next to the cluster's
// own parts.
var kubernetesNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

// maxName leaves room for the five characters that KEDA and the API server append
// to a Job's name, which as a label's value has at most 63
// (k8s.io/apiserver/pkg/storage/names).
const maxName = 57

const (
	archLabel   = "kubernetes.io/arch"
	maxPolling  = time.Hour
	maxGrace    = 7 * 24 * time.Hour
	linuxARM    = "linux.arm64"
	archAMD     = "amd64"
	archARM     = "arm64"
	entrypoint  = "/opt/atlassian/pipelines/runner/entrypoint.sh"
	runnerCPU   = "1000m"
	runnerBytes = "2Gi"
)

// Images are the references of a Job's three images.
type Images struct {
	Runner, Sidecar, Docker string
}

// RunnerGroup is the configuration of one runner group: who its runners are, and
// the pod that each runs in. NewRunnerGroup fills in the defaults.
type RunnerGroup struct {
	// Name of the ScaledJob: a DNS label of at most 57 characters.
	Name string
	// Namespace of the ScaledJob, not the control plane's.
	Namespace string
	// Group is what the scaler is told in the trigger's metadata.
	Group runnergroup.Group
	// Images of the pod; Docker is not looked at without the daemon.
	Images Images
	// Resources of the runner's container.
	Resources corev1.ResourceRequirements
	// DockerResources are the daemon's and so the steps': they run inside it.
	DockerResources corev1.ResourceRequirements
	// NodeSelector of the pod, besides the architecture that the group's OS asks for.
	NodeSelector map[string]string
	// Tolerations of the pod.
	Tolerations []corev1.Toleration
	// ScalerAddress is the scaler's gRPC endpoint, host:port, for KEDA and for the
	// sidecar alike.
	ScalerAddress string
	// TLS says whether KEDA and the sidecar speak TLS with the scaler. False sends
	// each runner's OAuth secret over the cluster's network in plain text.
	TLS bool
	// PollingInterval is KEDA's, 1 second to 1 hour, whole seconds.
	PollingInterval time.Duration
	// GracePeriod is how long an evicted pod may go on, up to 7 days, whole seconds.
	GracePeriod time.Duration
	// Docker says whether the pod has a Docker daemon. Without one only a runner
	// that needs none can run a step.
	Docker bool
	// ImageMirror took the place of the registry of the images that were not named;
	// empty for none. It is told for its own fault's sake: Images have it already.
	ImageMirror string
	// PullPolicy of the runner's and the daemon's image; empty is Kubernetes' default.
	PullPolicy corev1.PullPolicy
	// PullSecrets are names of Secrets in the group's namespace.
	PullSecrets []string
	// PriorityClass of the pod; empty is the cluster's default.
	PriorityClass string
	// Affinity of the pod.
	Affinity *corev1.Affinity
	// Env is what the runner's container has besides its identity.
	Env []corev1.EnvVar
	// Volumes of the pod besides its own, VolumeMounts those of the runner's
	// container, DockerVolumeMounts the daemon's.
	Volumes                          []corev1.Volume
	VolumeMounts, DockerVolumeMounts []corev1.VolumeMount
	// Proxy for the runner and the daemon.
	Proxy Proxy
	// PodTemplates are strategic merge patches of the Job's pod template, as JSON,
	// applied in their order after everything else.
	PodTemplates []json.RawMessage
	// Entrypoint is the command that `sidecar exec` starts in the runner's container.
	Entrypoint []string
}

// NewRunnerGroup is a runner group with the default of everything but its name
// and what its trigger says.
func NewRunnerGroup(name string, group runnergroup.Group) RunnerGroup {
	amounts := func() corev1.ResourceList {
		return corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse(runnerBytes),
			corev1.ResourceCPU:    resource.MustParse(runnerCPU),
		}
	}
	return RunnerGroup{
		Name: name, Namespace: DefaultNamespace, Group: group,
		Images:        Images{Runner: DefaultRunnerImage, Sidecar: DefaultSidecarImage, Docker: DefaultDockerImage},
		Resources:     corev1.ResourceRequirements{Requests: amounts(), Limits: amounts()},
		ScalerAddress: DefaultScalerAddress, TLS: true, PollingInterval: DefaultPollingInterval, GracePeriod: DefaultGracePeriod,
		Docker: true, Entrypoint: []string{entrypoint},
	}
}

// Validate reports every fault at once. They are *ConfigErrors with the names that the
// configuration file uses as paths.
func (g RunnerGroup) Validate() error {
	return errors.Join(append(g.groupFaults(), g.manifestFaults()...)...)
}

// manifestFaults are those of everything but the trigger's metadata.
func (g RunnerGroup) manifestFaults() []error {
	var faults []error
	add := func(path, given, accepted string) { faults = append(faults, fault(path, given, accepted)) }
	if len(validation.IsDNS1123Label(g.Name)) > 0 || len(g.Name) > maxName {
		add("name", g.Name, fmt.Sprintf("at most %d lower-case letters, digits and dashes", maxName))
	}
	switch {
	case g.Namespace == ControlPlaneNamespace:
		add("namespace", g.Namespace, "another one: this is the control plane's, which holds the credentials")
	case slices.Contains(kubernetesNamespaces, g.Namespace):
		add("namespace", g.Namespace, "another one: this is Kubernetes' own")
	case len(validation.IsDNS1123Label(g.Namespace)) > 0:
		add("namespace", g.Namespace, "the name of a namespace: at most 63 lower-case letters, digits and dashes")
	}
	if host, port, err := net.SplitHostPort(g.ScalerAddress); err != nil || host == "" || port == "" || strings.ContainsAny(host, " /") {
		add("scaler_address", g.ScalerAddress, "host:port")
	}
	if d := g.PollingInterval; d < time.Second || d > maxPolling || d%time.Second != 0 {
		add("polling_interval", d.String(), "whole seconds from 1s to 1h")
	}
	if d := g.GracePeriod; d < 0 || d > maxGrace || d%time.Second != 0 {
		add("grace_period", d.String(), "whole seconds from 0s to 168h")
	}
	if len(g.Entrypoint) == 0 || g.Entrypoint[0] == "" {
		add("entrypoint", strings.Join(g.Entrypoint, " "), "a command and its arguments")
	}
	faults = append(faults, g.imageFaults()...)
	faults = append(faults, resourceFaults("resources", g.Resources)...)
	faults = append(faults, resourceFaults("docker_resources", g.DockerResources)...)
	faults = append(faults, g.placementFaults()...)
	faults = append(faults, g.podFaults()...)
	// The overlay is not blamed for a volume that was blamed already.
	g.Volumes = slices.DeleteFunc(slices.Clone(g.Volumes), func(v corev1.Volume) bool { return slices.Contains(ownVolumes, v.Name) })
	_, overlaid := podTemplate(g)
	return append(faults, overlaid...)
}

// groupFaults holds the group against what the scaler will accept.
func (g RunnerGroup) groupFaults() []error {
	var invalid *runnergroup.InvalidError
	_, err := runnergroup.Parse(g.Group.Metadata())
	if !errors.As(err, &invalid) {
		return nil
	}
	faults := make([]error, len(invalid.Faults))
	for i, f := range invalid.Faults {
		faults[i] = &ConfigError{Path: ConfigPath(f.Key), Given: f.Given, Accepted: f.Accepted}
	}
	return faults
}

func (g RunnerGroup) imageFaults() []error {
	images := map[string]string{"images.runner": g.Images.Runner, "images.sidecar": g.Images.Sidecar}
	if g.Docker {
		images["images.docker"] = g.Images.Docker
	}
	var faults []error
	for _, path := range slices.Sorted(maps.Keys(images)) {
		if image := images[path]; image == "" || strings.ContainsFunc(image, func(r rune) bool { return r <= ' ' || r > '~' }) {
			faults = append(faults, fault(path, image, "an image reference such as registry/name:tag"))
		}
	}
	return faults
}

func resourceFaults(path string, r corev1.ResourceRequirements) []error {
	var faults []error
	for kind, list := range map[string]corev1.ResourceList{"requests": r.Requests, "limits": r.Limits} {
		for name, amount := range list {
			if amount.Sign() < 0 {
				faults = append(faults, fault(fmt.Sprintf("%s.%s.%s", path, kind, name), amount.String(), "an amount that is not negative"))
			}
			if len(validation.IsQualifiedName(string(name))) > 0 {
				faults = append(faults, fault(path+"."+kind, string(name), "names of resources such as cpu or memory"))
			}
		}
	}
	for name, request := range r.Requests {
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			faults = append(faults, fault(fmt.Sprintf("%s.requests.%s", path, name), request.String(), "at most the limit, which is "+limit.String()))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

func (g RunnerGroup) placementFaults() []error {
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(g.NodeSelector)) {
		value := g.NodeSelector[key]
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
			faults = append(faults, fault("node_selector", key+": "+value, "labels of nodes"))
		}
		if key == archLabel && value != g.arch() {
			faults = append(faults, fault("node_selector."+archLabel, value, "the group's architecture, which is "+g.arch()))
		}
	}
	for i, t := range g.Tolerations {
		path := fmt.Sprintf("tolerations[%d]", i)
		switch t.Operator {
		case "", corev1.TolerationOpEqual, corev1.TolerationOpExists:
		default:
			faults = append(faults, fault(path+".operator", string(t.Operator), "Equal or Exists"))
		}
		switch t.Effect {
		case "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		default:
			faults = append(faults, fault(path+".effect", string(t.Effect), "NoSchedule, PreferNoSchedule or NoExecute"))
		}
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			faults = append(faults, fault(path+".key", "", "a taint's key, or operator Exists"))
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			faults = append(faults, fault(path+".value", t.Value, "nothing with operator Exists"))
		}
	}
	return faults
}

// arch is the node architecture whose runners Bitbucket knows by the group's OS.
func (g RunnerGroup) arch() string {
	if g.Group.OS == linuxARM {
		return archARM
	}
	return archAMD
}
