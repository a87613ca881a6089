package jobfactory

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

// Defaults of a RunnerGroup.
const (
	// DefaultNamespace is the namespace of the runner Jobs.
	DefaultNamespace = "bitbucket-runner"
	// ControlPlaneNamespace is the scaler's own. It has the credentials, so no builds
	// run in it.
	ControlPlaneNamespace = "bitbucket-runner-scaler"
	// IncumbentNamespace is that of Atlassian's runners-autoscaler, which has the same
	// credentials and refuses runners too.
	IncumbentNamespace = "bitbucket-runner-control-plane"
	// ServiceName is the name of the Service of the scaler.
	ServiceName = "bitbucket-runner-scaler"
	// DefaultScalerAddress is the address of the Service in deploy/base.
	DefaultScalerAddress = ServiceName + "." + ControlPlaneNamespace + ".svc.cluster.local:9090"
	// DefaultRunnerImage is Atlassian's runner.
	DefaultRunnerImage = "docker-public.packages.atlassian.com/sox/atlassian/bitbucket-pipelines-runner:1"
	// DefaultSidecarImage is this project's image, which deploy/base renames.
	DefaultSidecarImage = "bitbucket-runner-scaler:latest"
	// DefaultDockerImage is the Docker daemon that runs the steps.
	DefaultDockerImage = "docker:dind"
	// DefaultPollingInterval is the time between two calls of KEDA. The scaler answers
	// them from memory, so that they cost no calls to Bitbucket.
	DefaultPollingInterval = 5 * time.Second
	// DefaultGracePeriod lets a step of two hours, Bitbucket's default limit, finish
	// before an evicted pod is killed.
	DefaultGracePeriod = 2*time.Hour + 10*time.Minute
)

// Operating systems as Bitbucket names them, and the architectures of their nodes as
// Kubernetes names them.
const (
	Linux    = "linux"
	LinuxARM = "linux.arm64"
	// LinuxShell is for images that run steps themselves, without Docker, on any
	// architecture.
	LinuxShell = "linux.shell"
	AMD64      = "amd64"
	ARM64      = "arm64"
)

// MaxName is the maximum length of a group's name. KEDA and the API server append
// five characters to get a Job's name, which as the value of a label may have 63
// (k8s.io/apiserver/pkg/storage/names).
const MaxName = 57

// The runner's defaults are those of Atlassian's runners-autoscaler.
const (
	entrypoint  = "/opt/atlassian/pipelines/runner/entrypoint.sh"
	runnerCPU   = "1000m"
	runnerBytes = "4Gi"
)

// Images are the references of a Job's three images.
type Images struct {
	Runner, Sidecar, Docker string
}

// Proxy is how the runner and the Docker daemon reach the Internet. The sidecar
// only calls the scaler and needs no proxy.
type Proxy struct {
	// HTTP and HTTPS are URLs without credentials, because the pod's spec shows them.
	HTTP, HTTPS string
	// None are the hosts that are reached without a proxy, comma separated.
	None string
}

// RunnerGroup is the configuration of one runner group: the rules by which it
// scales, and the pod that each runner has. NewRunnerGroup sets the defaults.
type RunnerGroup struct {
	// Name of the ScaledJob: a DNS label of at most MaxName characters.
	Name string
	// Namespace of the ScaledJob, which must not be the control plane's.
	Namespace string
	// Group becomes the trigger's metadata, which the scaler reads.
	Group runnergroup.Group
	// Images of the containers. Docker is ignored if the field Docker is false.
	Images Images
	// Resources of the runner container.
	Resources corev1.ResourceRequirements
	// DockerResources are those of the Docker daemon, and so of the steps, which run
	// inside it.
	DockerResources corev1.ResourceRequirements
	// DockerArgs are options of dockerd, in addition to its host.
	DockerArgs []string
	// NodeSelector of the pod, in addition to the architecture of the group's OS.
	NodeSelector map[string]string
	// Tolerations of the pod.
	Tolerations []corev1.Toleration
	// ScalerAddress is the scaler's gRPC endpoint, host:port, for KEDA and the sidecar.
	ScalerAddress string
	// TLS says whether KEDA and the sidecar use TLS to the scaler. Without TLS each
	// runner's OAuth secret crosses the cluster's network in plain text.
	TLS bool
	// PollingInterval of KEDA: 1 second to 1 hour, in whole seconds.
	PollingInterval time.Duration
	// GracePeriod is how long an evicted pod may continue: up to 7 days, in whole
	// seconds.
	GracePeriod time.Duration
	// Docker says whether the pod has a Docker daemon. Without one, only a runner that
	// needs no Docker can run a step, as one with the OS LinuxShell.
	Docker bool
	// ImageMirror is the mirror of the default images; empty for none. Images already
	// name it; the field exists so that Validate can report a fault of it.
	ImageMirror string
	// PullPolicy of the runner's and the daemon's image; empty is Kubernetes' default.
	PullPolicy corev1.PullPolicy
	// PullSecrets are names of Secrets in the group's namespace.
	PullSecrets []string
	// PriorityClass of the pod; empty is the cluster's default.
	PriorityClass string
	// Affinity of the pod.
	Affinity *corev1.Affinity
	// Env are variables of the runner container, in addition to the runner's identity.
	Env []corev1.EnvVar
	// Volumes of the pod, in addition to its own.
	Volumes []corev1.Volume
	// VolumeMounts are those of the runner container, DockerVolumeMounts those of the
	// Docker daemon.
	VolumeMounts, DockerVolumeMounts []corev1.VolumeMount
	// Proxy for the runner and the Docker daemon.
	Proxy Proxy
	// PodTemplates are strategic merge patches of the Job's pod template, as JSON. They
	// are applied in this order, after all other fields.
	PodTemplates []json.RawMessage
	// Entrypoint is the command that `sidecar exec` starts in the runner container.
	Entrypoint []string
}

// NewRunnerGroup returns a runner group with the given name and scaling rules, and
// the defaults of everything else.
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
		Docker: group.OS != LinuxShell, Entrypoint: []string{entrypoint},
	}
}

// architectureOf returns the architecture of the nodes for an OS; "" if the OS does not
// say it.
func architectureOf(system string) string {
	return map[string]string{Linux: AMD64, LinuxARM: ARM64}[system]
}

// identity are the variables that `sidecar exec` sets for the runner.
var identity = []string{
	"ACCOUNT_UUID", "REPOSITORY_UUID", "RUNNER_UUID", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_TOKEN_ENDPOINT",
	"WORKING_DIRECTORY", "RUNTIME_PREREQUISITES_ENABLED",
}

// IdentityVariables returns the variables that `sidecar exec` sets for the runner.
func IdentityVariables() []string { return slices.Clone(identity) }

// IdentityVariable reports whether `sidecar exec` sets the variable for the runner.
func IdentityVariable(name string) bool { return slices.Contains(identity, name) }

// ReservedVariable reports whether a group must not set the variable in the runner
// container: it is the runner's identity, or configures the sidecar.
func ReservedVariable(name string) bool {
	return IdentityVariable(name) || strings.HasPrefix(name, "SIDECAR_")
}
