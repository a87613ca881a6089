package lint

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// evictionKeys are the annotations by which the two node autoscalers leave a pod alone.
var evictionKeys = []string{"cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"}

// podPath is a path in the pod's spec.
func podPath(path ...string) []string {
	return append([]string{"spec", "jobTargetRef", "template", "spec"}, path...)
}

func (j *job) pod() corev1.PodTemplateSpec {
	if j.Spec.JobTargetRef == nil {
		return corev1.PodTemplateSpec{}
	}
	return j.Spec.JobTargetRef.Template
}

// grace is how long a deleted pod may go on; Kubernetes' own default is 30 s.
func (j *job) grace() time.Duration {
	if g := j.pod().Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// podRules look at the pod that a runner lives in.
func podRules() []entry {
	return []entry{
		{Rule: Rule{"runner-memory", Warning, "a runner without a memory request or limit: the node decides when it dies", "give the runner's container a memory request and limit"}, one: runnerMemory},
		{Rule: Rule{"token-life", Error, "a projected token that may expire within the grace period: a terminating pod's token is not renewed, and of its life a fifth may be left", "set expirationSeconds to at least five times terminationGracePeriodSeconds"}, one: tokenLife},
		{Rule: Rule{"grace-too-short", Warning, "a terminationGracePeriodSeconds shorter than the longest step: an evicted step is killed", "raise terminationGracePeriodSeconds, or say --longest-step"},
			all: func(jobs []*job, options Options, add reportAt) {
				for _, j := range jobs {
					if g := j.grace(); g < options.LongestStep {
						add(j, fmt.Sprintf("grace period %s, longest step %s", g, options.LongestStep), podPath("terminationGracePeriodSeconds")...)
					}
				}
			}},
		{Rule: Rule{"eviction-protection", Warning, "a pod that cluster-autoscaler or Karpenter may take away in mid-step", "annotate the pod template with cluster-autoscaler.kubernetes.io/safe-to-evict \"false\" and karpenter.sh/do-not-disrupt \"true\""},
			one: func(j *job, add report) {
				for i, want := range []string{"false", "true"} {
					if given := j.pod().Annotations[evictionKeys[i]]; given != want {
						add(fmt.Sprintf("annotation %s is %q, want %q", evictionKeys[i], given, want), "spec", "jobTargetRef", "template", "metadata", "annotations", evictionKeys[i])
					}
				}
			}},
		{Rule: Rule{"sidecar-missing", Error, "a pod without the native sidecar, the preStop drain or the exec wrapper: no runner, or one that is killed in mid-step", "take sidecar, preStop and command as `runnerctl render` writes them"}, one: sidecarMissing},
		{Rule: Rule{"service-account-token", Warning, "automountServiceAccountToken that is not false: builds get a token of the cluster", "set automountServiceAccountToken to false"},
			one: func(j *job, add report) {
				if a := j.pod().Spec.AutomountServiceAccountToken; a == nil || *a {
					add("automountServiceAccountToken is not false", podPath("automountServiceAccountToken")...)
				}
			}},
		{Rule: Rule{"no-node-fits", Error, "requests that no node of the cluster can hold", "lower the requests, or add larger nodes"}, all: noNodeFits},
	}
}

// runner is the container that the runner is in: by name, else the only one.
func (j *job) runner() (int, *corev1.Container) {
	containers := j.pod().Spec.Containers
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == "runner" })
	if i < 0 && len(containers) == 1 {
		i = 0
	}
	if i < 0 {
		return 0, nil
	}
	return i, &containers[i]
}

func runnerMemory(j *job, add report) {
	i, c := j.runner()
	if c == nil {
		return
	}
	request, limit := c.Resources.Requests.Memory(), c.Resources.Limits.Memory()
	// Kubernetes takes a missing request from the limit.
	if limit.IsZero() {
		add("the runner has no memory limit", podPath("containers", strconv.Itoa(i), "resources")...)
	}
	if request.IsZero() && limit.IsZero() {
		add("the runner has no memory request", podPath("containers", strconv.Itoa(i), "resources")...)
	}
}

func tokenLife(j *job, add report) {
	for i, volume := range j.pod().Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for k, source := range volume.Projected.Sources {
			token := source.ServiceAccountToken
			if token == nil {
				continue
			}
			life := time.Hour // Kubernetes' default
			if token.ExpirationSeconds != nil {
				life = time.Duration(*token.ExpirationSeconds) * time.Second
			}
			// The kubelet renews it when four fifths of its life are over.
			if left, grace := life/5, j.grace(); left < grace {
				add(fmt.Sprintf("of the token's life of %s as little as %s may be left, the grace period is %s", life, left, grace),
					podPath("volumes", strconv.Itoa(i), "projected", "sources", strconv.Itoa(k), "serviceAccountToken", "expirationSeconds")...)
			}
		}
	}
}

func sidecarMissing(j *job, add report) {
	inits := j.pod().Spec.InitContainers
	i := slices.IndexFunc(inits, func(c corev1.Container) bool { return calls(c.Command, "run") })
	switch {
	case i < 0:
		add("no init container runs `sidecar run`", podPath("initContainers")...)
	case inits[i].RestartPolicy == nil || *inits[i].RestartPolicy != corev1.ContainerRestartPolicyAlways:
		add("the sidecar's restartPolicy is not Always", podPath("initContainers", strconv.Itoa(i))...)
	}
	k, c := j.runner()
	if c == nil {
		add("no container is named runner", podPath("containers")...)
		return
	}
	at := strconv.Itoa(k)
	if !calls(c.Command, "exec") {
		add("the runner's command is not wrapped in `sidecar exec --`", podPath("containers", at, "command")...)
	}
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Exec == nil || !calls(c.Lifecycle.PreStop.Exec.Command, "drain") {
		add("the runner has no preStop hook `sidecar drain`", podPath("containers", at, "lifecycle")...)
	}
}

// calls reports whether a command is the sidecar's of that name.
func calls(command []string, name string) bool {
	return len(command) > 1 && strings.HasSuffix("/"+command[0], "/sidecar") && command[1] == name
}

func scalerTLS(j *job, add report) {
	trigger := j.Spec.Triggers[j.trigger]
	address := trigger.Metadata["scalerAddress"]
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" || strings.ContainsAny(host, " /") {
		add(fmt.Sprintf("scalerAddress is %q, want host:port", address), j.metadata("scalerAddress")...)
	}
	enabled := trigger.Metadata["enableTLS"] == "true"
	if enabled && trigger.AuthenticationRef == nil {
		add("enableTLS without an authenticationRef: KEDA cannot verify the scaler", j.metadata("enableTLS")...)
	}
	if !enabled && trigger.AuthenticationRef != nil {
		add("an authenticationRef without enableTLS: KEDA speaks plain text", j.metadata("enableTLS")...)
	}
	for i, c := range j.pod().Spec.InitContainers {
		if !calls(c.Command, "run") {
			continue
		}
		for _, env := range c.Env {
			path := podPath("initContainers", strconv.Itoa(i), "env")
			if env.Name == "SIDECAR_SCALER_ADDRESS" && env.Value != address {
				add(fmt.Sprintf("the sidecar calls %q, KEDA %q", env.Value, address), path...)
			}
			if env.Name == "SIDECAR_TLS" && env.Value == "off" && enabled {
				add("the sidecar speaks plain text and KEDA TLS", path...)
			}
		}
	}
}

// noNodeFits adds up what a pod asks for: containers and native sidecars run side
// by side.
func noNodeFits(jobs []*job, options Options, add reportAt) {
	if options.Nodes == nil {
		return
	}
	for _, j := range jobs {
		need := corev1.ResourceList{}
		spec := j.pod().Spec
		for _, c := range slices.Concat(spec.Containers, spec.InitContainers) {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				amount, ok := c.Resources.Requests[name]
				if !ok {
					amount = c.Resources.Limits[name]
				}
				sum := need[name]
				sum.Add(amount)
				need[name] = sum
			}
		}
		if !slices.ContainsFunc(options.Nodes, func(node corev1.ResourceList) bool { return holds(node, need) }) {
			add(j, fmt.Sprintf("the pod asks for cpu %s and memory %s, which none of %d nodes can hold", need.Cpu(), need.Memory(), len(options.Nodes)), podPath("containers")...)
		}
	}
}

func holds(node, need corev1.ResourceList) bool {
	for name, amount := range need {
		has, ok := node[name]
		if !ok {
			has = resource.Quantity{}
		}
		if amount.Cmp(has) > 0 {
			return false
		}
	}
	return true
}
