package config

import (
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/jobfactory"
)

// key is one key of the configuration file. The reader refuses keys that are not in
// these tables, and Schema is made from them, so that the two always agree.
type key struct {
	name string
	// about is the description that an editor shows.
	about string
	// kind of the value.
	kind kind
	// required says whether the mapping must have the key.
	required bool
}

// kind is the form of a key's value.
type kind struct {
	// of is one of the form constants below.
	of form
	// keys of a mapping.
	keys []key
	// oneOf are the accepted texts, pattern is what a text must match.
	oneOf   []string
	pattern string
	// like is a value of the Kubernetes type.
	like any
}

type form int

const (
	text form = iota // any scalar, as it is written
	boolean
	texts   // a list of scalars
	words   // a mapping of names to scalars
	object  // a mapping with keys
	objects // a list of them
	typed   // a Kubernetes type
	typedList
)

// Patterns of texts that are numbers: the reader takes them as numbers too.
const (
	DurationPattern = `^([0-9]{1,9}|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$`
	CountPattern    = `^[0-9]{1,9}$`
	DecimalPattern  = `^[0-9]+(\.[0-9]+)?$`
)

var (
	aText     = kind{of: text, pattern: `\S`}
	aDuration = kind{of: text, pattern: DurationPattern}
	aCount    = kind{of: text, pattern: CountPattern}
	aDecimal  = kind{of: text, pattern: DecimalPattern}
)

// Keys of the file.
var fileKeys = []key{
	{name: "groups", about: "The runner groups. Each becomes a ScaledJob.", kind: kind{of: objects, keys: groupKeys}},
	{name: "config", about: "The runner groups in the older form of Atlassian's runners-autoscaler, instead of groups.", kind: kind{of: objects, keys: groupKeys}},
	{name: "constants", about: "Constants of Atlassian's runners-autoscaler. Each has an effect, or a note says what replaces it.", kind: kind{of: object, keys: constantKeys}},
}

// Keys of a group.
var groupKeys = []key{
	{name: "name", about: "Name of the group. The ScaledJob's name consists of its letters and digits.", kind: aText, required: true},
	{name: "namespace", about: "Namespace of the group's Jobs, which must not be the control plane's. Default bitbucket-runner.", kind: aText},
	{name: "workspace", about: "Slug of the workspace, or its UUID in braces.", kind: aText, required: true},
	{name: "repository", about: "Slug of the repository, or its UUID in braces, for runners of this repository rather than of the workspace.", kind: aText},
	{name: "labels", about: "1 to 9 labels. self.hosted and the OS label are added, and may be listed.", kind: kind{of: texts}, required: true},
	{name: "os", about: "linux, linux.arm64, or linux.shell for an image that runs steps without Docker. Default linux.", kind: kind{of: text, oneOf: []string{jobfactory.Linux, jobfactory.LinuxARM, jobfactory.LinuxShell}}},
	{name: "architecture", about: "amd64 or arm64, instead of os.", kind: kind{of: text, oneOf: []string{jobfactory.AMD64, jobfactory.ARM64}}},
	{name: "type", about: "Mode of the older form: manual means strategy fixed, autoscaling means percentageRunnersIdle.", kind: kind{of: text, oneOf: []string{manual, autoscaling}}},
	{name: "strategy", about: "How the number of runners follows the demand. manual is another name for fixed. Default percentageRunnersIdle.",
		kind: kind{of: text, oneOf: []string{percentage, "queuedSteps", fixed, manual}}},
	{name: "parameters", about: "The scaling rules.", kind: kind{of: object, keys: parameterKeys}},
	{name: "repositories", about: "With queuedSteps in a workspace: repositories that the scaler always checks for waiting steps.", kind: kind{of: texts}},
	{name: "schedules", about: "Time windows in which min, max or spare are others.", kind: kind{of: objects, keys: scheduleKeys}},
	{name: "credentials", about: "Name of the credentials set. Default default.", kind: aText},
	{name: "resources", about: "Requests and limits of the runner container.", kind: kind{of: object, keys: resourceKeys}},
	{name: "docker", about: "Whether the pod has a Docker daemon. Default true, with os linux.shell false.", kind: kind{of: boolean}},
	{name: "docker_args", about: "Options of dockerd, such as --mtu=1400, but not --host.", kind: kind{of: texts}},
	{name: "docker_resources", about: "Requests and limits of the Docker daemon, and so of the steps, which run inside it.", kind: kind{of: object, keys: resourceKeys}},
	{name: "node_selector", about: "Labels of the nodes that builds may run on.", kind: kind{of: words}},
	{name: "tolerations", about: "Tolerations of the pod, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.Toleration{}}},
	{name: "affinity", about: "Affinity of the pod, in Kubernetes' form.", kind: kind{of: typed, like: corev1.Affinity{}}},
	{name: "priority_class", about: "PriorityClass of the pods.", kind: aText},
	{name: "images", about: "The images.", kind: kind{of: object, keys: imageKeys}},
	{name: "image_mirror", about: "Registry, and path within it, that replaces the registry of the runner's and the daemon's default images.", kind: aText},
	{name: "image_pull_policy", about: "Pull policy of the runner's and the daemon's image.", kind: kind{of: text, oneOf: []string{"Always", "IfNotPresent", "Never"}}},
	{name: "image_pull_secrets", about: "Names of Secrets in the group's namespace.", kind: kind{of: texts}},
	{name: "entrypoint", about: "Command of the runner container and its arguments.", kind: kind{of: texts}},
	{name: "env", about: "Additional variables of the runner container, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.EnvVar{}}},
	{name: "proxy", about: "Proxy of the runner and of the Docker daemon.", kind: kind{of: object, keys: proxyKeys}},
	{name: "volumes", about: "Additional volumes of the pod, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.Volume{}}},
	{name: "volume_mounts", about: "Mounts of these volumes in the runner container, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.VolumeMount{}}},
	{name: "docker_volume_mounts", about: "Mounts of these volumes in the Docker daemon's container, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.VolumeMount{}}},
	{name: "pod_template", about: "Strategic merge patch of the Job's pod template, for everything that has no key here. It must not change what the scaler depends on.", kind: kind{of: typed, like: corev1.PodTemplateSpec{}}},
	{name: "scaler_address", about: "Address of the scaler, host:port.", kind: aText},
	{name: "tls", about: "Whether KEDA and the sidecar use TLS to the scaler. Default true.", kind: kind{of: boolean}},
	{name: "polling_interval", about: "How often KEDA calls the scaler: whole seconds from 1s to 1h. Default 5s.", kind: aDuration},
	{name: "grace_period", about: "How long an evicted pod may continue with its step, up to 168h. Default 2h10m.", kind: aDuration},
}

// Keys of a group's `parameters`: the scaling rules.
var parameterKeys = []key{
	{name: "min", about: "Minimum number of runners, at least 1; with queuedSteps 0 is possible. Default 1.", kind: aCount},
	{name: "max", about: "Maximum number of runners, 1 to 100. Default 10.", kind: aCount},
	{name: "scale_up_threshold", about: "Share of busy runners above which the group grows. Default 0.5.", kind: aDecimal},
	{name: "scale_down_threshold", about: "Share of busy runners below which the group shrinks. Default 0.2.", kind: aDecimal},
	{name: "scale_up_multiplier", about: "Factor by which the group grows, greater than 1. Default 1.5.", kind: aDecimal},
	{name: "scale_down_multiplier", about: "Factor by which the group shrinks, less than 1. Default 0.5.", kind: aDecimal},
	{name: "spare", about: "Runners that are kept free in addition to the demand. Default 0, with ephemeral 1.", kind: aCount},
	{name: "count", about: "Number of runners with strategy fixed, 0 to 100.", kind: aCount},
	{name: runnersCount, about: "Name of count in the older form. Default 1 with type manual.", kind: aCount},
	{name: "cool_down", about: "How long fewer runners must be wanted before one is removed. Default 300s.", kind: aDuration},
	{name: "ephemeral", about: "Whether a runner runs only one step.", kind: kind{of: boolean}},
	{name: "max_age", about: "Age at which an idle runner is replaced; 0 means never. Default 24h.", kind: aDuration},
	{name: "look_ahead", about: "With queuedSteps: how long before a step will wait it counts already, going by how long the steps before it usually take. Default 0.", kind: aDuration},
}

// Keys of `constants`.
var constantKeys = []key{
	{name: coolDownConstant, about: "cool_down of the groups that have none.", kind: aDuration},
	{name: namespaceConstant, about: "namespace of the groups that have none.", kind: aText},
	{name: setupConstant, about: "Has no effect: the scaler does not pause.", kind: kind{of: text}},
	{name: deleteConstant, about: "Has no effect: the scaler does not pause.", kind: kind{of: text}},
	{name: pollConstant, about: "Has no effect: the scaler's --poll-interval replaces it.", kind: kind{of: text}},
}

// Keys of smaller mappings.
var (
	scheduleKeys = []key{
		{name: "start", about: "When the window opens: a cron expression of five fields, such as 0 7 * * 1-5.", kind: aText, required: true},
		{name: "end", about: "When it closes: a cron expression of five fields, such as 0 19 * * 1-5.", kind: aText, required: true},
		{name: "timezone", about: "Time zone of both, such as Europe/Berlin. Default UTC.", kind: aText},
		{name: "min", about: "min while the window is open.", kind: aCount},
		{name: "max", about: "max while the window is open.", kind: aCount},
		{name: "spare", about: "spare while the window is open.", kind: aCount},
	}
	resourceKeys = []key{
		{name: "requests", about: "Amounts by resource, such as 2Gi or 1000m.", kind: kind{of: words}},
		{name: "limits", about: "Amounts by resource, such as 2Gi or 1000m.", kind: kind{of: words}},
	}
	imageKeys = []key{
		{name: "runner", about: "Image of Atlassian's runner.", kind: aText},
		{name: "sidecar", about: "Image of this project.", kind: aText},
		{name: "docker", about: "Image of the Docker daemon.", kind: aText},
	}
	proxyKeys = []key{
		{name: "http", about: "HTTP_PROXY, without credentials.", kind: aText},
		{name: "https", about: "HTTPS_PROXY, without credentials.", kind: aText},
		{name: "no_proxy", about: "NO_PROXY: hosts that are reached without a proxy.", kind: aText},
	}
)

func names(keys []key) []string {
	all := make([]string, len(keys))
	for i, key := range keys {
		all[i] = key.name
	}
	return all
}
