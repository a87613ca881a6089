package lint

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bitbucket-runner-scaler/jobfactory"
)

// podPath returns the path of a field of the pod's spec.
func podPath(path ...string) []string {
	return append([]string{"spec", "jobTargetRef", "template", "spec"}, path...)
}

func (j *job) pod() corev1.PodTemplateSpec {
	if j.Spec.JobTargetRef == nil {
		return corev1.PodTemplateSpec{}
	}
	return j.Spec.JobTargetRef.Template
}

// grace returns how long a deleted pod may continue. Kubernetes' default is 30 s.
func (j *job) grace() time.Duration {
	if g := j.pod().Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// podRules are the rules about the runner's pod.
func podRules() []entry {
	return []entry{
		{Rule: Rule{"runner-memory", Warning, "a runner without a memory request or limit: the kernel may kill it when the node runs out of memory", "set a memory request and limit of the runner container"}, one: runnerMemory},
		{Rule: Rule{"token-life", Error, "a projected token that may expire within the grace period: the token of a terminating pod is not renewed, and a fifth of its life may be left", "set expirationSeconds to at least five times terminationGracePeriodSeconds"}, one: tokenLife},
		{Rule: Rule{"grace-too-short", Warning, "a terminationGracePeriodSeconds shorter than the longest step: an evicted step is killed", "raise terminationGracePeriodSeconds, or set --longest-step"},
			all: func(jobs []*job, options Options, add reportAt) {
				for _, j := range jobs {
					if g := j.grace(); g < options.LongestStep {
						add(j, fmt.Sprintf("the grace period is %s, and the longest step takes %s", g, options.LongestStep), podPath("terminationGracePeriodSeconds")...)
					}
				}
			}},
		{Rule: Rule{"eviction-protection", Warning, "a pod that cluster-autoscaler or Karpenter may evict during a step", "annotate the pod template with cluster-autoscaler.kubernetes.io/safe-to-evict \"false\" and karpenter.sh/do-not-disrupt \"true\""},
			one: func(j *job, add report) {
				protection := jobfactory.EvictionProtection()
				for _, key := range slices.Sorted(maps.Keys(protection)) {
					if given, want := j.pod().Annotations[key], protection[key]; given != want {
						add(fmt.Sprintf("annotation %s is %q, want %q", key, given, want), "spec", "jobTargetRef", "template", "metadata", "annotations", key)
					}
				}
			}},
		{Rule: Rule{"sidecar-missing", Error, "a pod without the native sidecar, the preStop drain or the exec wrapper: there is no runner, or it is killed during a step", "copy the sidecar, the preStop hook and the command from the output of `runnerctl render`"}, one: sidecarMissing},
		{Rule: Rule{"service-account-token", Warning, "automountServiceAccountToken that is not false: builds get a token for the cluster", "set automountServiceAccountToken to false"},
			one: func(j *job, add report) {
				if a := j.pod().Spec.AutomountServiceAccountToken; a == nil || *a {
					add("automountServiceAccountToken is not false", podPath("automountServiceAccountToken")...)
				}
			}},
		{Rule: Rule{"no-node-fits", Error, "requests that do not fit on any node of the cluster", "lower the requests, or add larger nodes"}, all: noNodeFits},
	}
}

// runner returns the runner container: the one with that name, else the only one.
func (j *job) runner() (int, *corev1.Container) {
	containers := j.pod().Spec.Containers
	i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == jobfactory.RunnerContainer })
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
	// Kubernetes uses the limit as a missing request.
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
			// The kubelet renews a token after four fifths of its life.
			if left, grace := life/5, j.grace(); left < grace {
				add(fmt.Sprintf("of the token's life of %s only %s may be left, and the grace period is %s", life, left, grace),
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

// calls reports whether a command runs the sidecar's command of that name.
func calls(command []string, name string) bool {
	return len(command) > 1 && strings.HasSuffix("/"+command[0], "/sidecar") && command[1] == name
}

func scalerTLS(j *job, add report) {
	trigger := j.Spec.Triggers[j.trigger]
	address := trigger.Metadata["scalerAddress"]
	if !jobfactory.ValidAddress(address) {
		add(fmt.Sprintf("scalerAddress is %q, want host:port", address), j.metadata("scalerAddress")...)
	}
	enabled := trigger.Metadata["enableTLS"] == "true"
	if enabled && trigger.AuthenticationRef == nil {
		add("enableTLS is set without an authenticationRef, so KEDA cannot verify the scaler", j.metadata("enableTLS")...)
	}
	if !enabled && trigger.AuthenticationRef != nil {
		add("authenticationRef is set without enableTLS, so KEDA uses plain text", j.metadata("enableTLS")...)
	}
	for i, c := range j.pod().Spec.InitContainers {
		if !calls(c.Command, "run") {
			continue
		}
		for _, env := range c.Env {
			path := podPath("initContainers", strconv.Itoa(i), "env")
			if env.Name == "SIDECAR_SCALER_ADDRESS" && env.Value != address {
				add(fmt.Sprintf("the sidecar calls %q, and KEDA calls %q", env.Value, address), path...)
			}
			if env.Name == "SIDECAR_TLS" && env.Value == "off" && enabled {
				add("the sidecar uses plain text, and KEDA uses TLS", path...)
			}
		}
	}
}

// noNodeFits adds up the requests of containers and native sidecars, because they run
// at the same time.
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
		if !slices.ContainsFunc(options.Nodes, func(node corev1.ResourceList) bool { return fits(need, node) }) {
			add(j, fmt.Sprintf("the pod requests cpu %s and memory %s, which do not fit on any of %d nodes", need.Cpu(), need.Memory(), len(options.Nodes)), podPath("containers")...)
		}
	}
}

func fits(need, node corev1.ResourceList) bool {
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
