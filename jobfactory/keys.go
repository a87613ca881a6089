package jobfactory

import (
	corev1 "k8s.io/api/core/v1"
)

// key is one key of the configuration file. The reader refuses what is not in
// these tables, and Schema is made from them, so that the two cannot part.
type key struct {
	name string
	// about is what an editor shows.
	about string
	// kind is what stands there.
	kind kind
	// required in its mapping.
	required bool
}

// kind is the form of a key's value.
type kind struct {
	// of is one of the form constants below.
	of form
	// keys of a mapping.
	keys []key
	// oneOf are the texts accepted, pattern what a text must match.
	oneOf   []string
	pattern string
	// like is a value of the Kubernetes type that is read.
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
	typed   // a Kubernetes type, in its own spelling
	typedList
	anything // checked by what it is merged into
)

const (
	durationPattern = `^([0-9]{1,9}|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)$`
	countPattern    = `^[0-9]{1,9}$`
	decimalPattern  = `^[0-9]+(\.[0-9]+)?$`
)

var (
	aText     = kind{of: text, pattern: `\S`}
	aDuration = kind{of: text, pattern: durationPattern}
	aCount    = kind{of: text, pattern: countPattern}
	aDecimal  = kind{of: text, pattern: decimalPattern}
)

// Keys of a file.
var fileKeys = []key{
	{name: "groups", about: "The runner groups; each becomes a ScaledJob.", kind: kind{of: objects, keys: groupKeys}},
	{name: "config", about: "The same in the older form of Atlassian's runners-autoscaler, instead of groups.", kind: kind{of: objects, keys: groupKeys}},
	{name: "constants", about: "What Atlassian's runners-autoscaler reads there. Each is honoured, or a note says what replaces it.", kind: kind{of: object, keys: constantKeys}},
}

// Keys of a group.
var groupKeys = []key{
	{name: "name", about: "Name of the group; the ScaledJob's is made from its letters and digits.", kind: aText, required: true},
	{name: "namespace", about: "Namespace of the group's Jobs, not the control plane's. Default bitbucket-runner.", kind: aText},
	{name: "workspace", about: "Slug, or UUID in braces.", kind: aText, required: true},
	{name: "repository", about: "Slug, or UUID in braces: runners of this repository rather than of the workspace.", kind: aText},
	{name: "labels", about: "1 to 9 labels; self.hosted and the OS label are added.", kind: kind{of: texts}, required: true},
	{name: "os", about: "linux or linux.arm64. Default linux.", kind: kind{of: text, oneOf: []string{"linux", linuxARM}}},
	{name: "architecture", about: "amd64 or arm64, instead of os.", kind: kind{of: text, oneOf: []string{archAMD, archARM}}},
	{name: "type", about: "The older form's mode: manual is strategy fixed, autoscaling is percentageRunnersIdle.", kind: kind{of: text, oneOf: []string{manual, autoscaling}}},
	{name: "strategy", about: "How the number of runners follows the demand. manual is another name of fixed. Default percentageRunnersIdle.",
		kind: kind{of: text, oneOf: []string{percentage, "queuedSteps", fixed, manual}}},
	{name: "parameters", about: "The rules of scaling.", kind: kind{of: object, keys: parameterKeys}},
	{name: "repositories", about: "With queuedSteps in a workspace: repositories that are always looked at.", kind: kind{of: texts}},
	{name: "credentials", about: "Name of the credentials set. Default default.", kind: aText},
	{name: "resources", about: "Requests and limits of the runner's container.", kind: kind{of: object, keys: resourceKeys}},
	{name: "docker", about: "Whether the pod has a Docker daemon. Default true.", kind: kind{of: boolean}},
	{name: "docker_resources", about: "Requests and limits of the Docker daemon, and so of the steps that run inside it.", kind: kind{of: object, keys: resourceKeys}},
	{name: "node_selector", about: "Labels of the nodes that builds may run on.", kind: kind{of: words}},
	{name: "tolerations", about: "Kubernetes' tolerations.", kind: kind{of: typedList, like: corev1.Toleration{}}},
	{name: "affinity", about: "Kubernetes' affinity.", kind: kind{of: typed, like: corev1.Affinity{}}},
	{name: "priority_class", about: "PriorityClass of the pods.", kind: aText},
	{name: "images", about: "References of the images.", kind: kind{of: object, keys: imageKeys}},
	{name: "image_mirror", about: "Registry, and path within it, that takes the place of the registry of the runner's and the daemon's default images.", kind: aText},
	{name: "image_pull_policy", about: "Of the runner's and the daemon's image.", kind: kind{of: text, oneOf: []string{"Always", "IfNotPresent", "Never"}}},
	{name: "image_pull_secrets", about: "Names of Secrets in the group's namespace.", kind: kind{of: texts}},
	{name: "entrypoint", about: "Command of the runner's container and its arguments.", kind: kind{of: texts}},
	{name: "env", about: "Further variables of the runner's container, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.EnvVar{}}},
	{name: "proxy", about: "Proxy of the runner and of the Docker daemon.", kind: kind{of: object, keys: proxyKeys}},
	{name: "volumes", about: "Further volumes of the pod, in Kubernetes' form.", kind: kind{of: typedList, like: corev1.Volume{}}},
	{name: "volume_mounts", about: "Where the runner's container has them.", kind: kind{of: typedList, like: corev1.VolumeMount{}}},
	{name: "docker_volume_mounts", about: "Where the Docker daemon has them.", kind: kind{of: typedList, like: corev1.VolumeMount{}}},
	{name: "pod_template", about: "Strategic merge patch of the Job's pod template, for all that has no key here. What the scaler depends on must stay.", kind: kind{of: anything}},
	{name: "scaler_address", about: "The scaler's host:port.", kind: aText},
	{name: "tls", about: "Whether KEDA and the sidecar speak TLS with the scaler. Default true.", kind: kind{of: boolean}},
	{name: "polling_interval", about: "KEDA's, whole seconds from 1s to 1h. Default 5s.", kind: aDuration},
	{name: "grace_period", about: "How long an evicted pod may go on with its step, up to 168h. Default 2h10m.", kind: aDuration},
}

// Keys of a group's `parameters`: the scaling rules.
var parameterKeys = []key{
	{name: "min", about: "Least number of runners, default 1; 0 only with queuedSteps.", kind: aCount},
	{name: "max", about: "Most runners, 1 to 100, default 10.", kind: aCount},
	{name: "scale_up_threshold", about: "Share of busy runners above which the group grows. Default 0.5.", kind: aDecimal},
	{name: "scale_down_threshold", about: "Share of busy runners below which the group shrinks. Default 0.2.", kind: aDecimal},
	{name: "scale_up_multiplier", about: "By how much it grows, over 1. Default 1.5.", kind: aDecimal},
	{name: "scale_down_multiplier", about: "By how much it shrinks, below 1. Default 0.5.", kind: aDecimal},
	{name: "spare", about: "Runners kept free on top of the demand. Default 0, with ephemeral 1.", kind: aCount},
	{name: "count", about: "With strategy fixed: how many runners, 0 to 100.", kind: aCount},
	{name: runnersCount, about: "The older form's name of count. With type manual the default is 1.", kind: aCount},
	{name: "cool_down", about: "How long fewer must have been wanted before one is retired. Default 300s.", kind: aDuration},
	{name: "ephemeral", about: "One step a runner.", kind: kind{of: boolean}},
	{name: "max_age", about: "An idle runner older than this is replaced; 0 never. Default 24h.", kind: aDuration},
}

// Keys of `constants`.
var constantKeys = []key{
	{name: coolDownConstant, about: "cool_down of the groups that give none.", kind: aDuration},
	{name: namespaceConstant, about: "namespace of the groups that give none.", kind: aText},
	{name: setupConstant, about: "Has no effect: nothing is slept over.", kind: kind{of: text}},
	{name: deleteConstant, about: "Has no effect: nothing is slept over.", kind: kind{of: text}},
	{name: pollConstant, about: "Has no effect: the scaler's --poll-interval takes its place.", kind: kind{of: text}},
}

// Keys of smaller mappings.
var (
	resourceKeys = []key{
		{name: "requests", about: "Amounts such as 2Gi or 1000m.", kind: kind{of: words}},
		{name: "limits", about: "Amounts such as 2Gi or 1000m.", kind: kind{of: words}},
	}
	imageKeys = []key{
		{name: "runner", about: "Atlassian's runner.", kind: aText},
		{name: "sidecar", about: "This project's image.", kind: aText},
		{name: "docker", about: "The Docker daemon.", kind: aText},
	}
	proxyKeys = []key{
		{name: "http", about: "HTTP_PROXY, without credentials.", kind: aText},
		{name: "https", about: "HTTPS_PROXY, without credentials.", kind: aText},
		{name: "no_proxy", about: "NO_PROXY: hosts that are reached without it.", kind: aText},
	}
)

func names(keys []key) []string {
	all := make([]string, len(keys))
	for i, key := range keys {
		all[i] = key.name
	}
	return all
}
