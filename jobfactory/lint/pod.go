package lint

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"bitbucket-runner-scaler/jobfactory"
)

// podPath returns the path of a field of the pod's spec.
func podPath(path ...string) []string {
	return append([]string{"spec", "jobTargetRef", "template", "spec"}, path...)
}

// jobSpec returns the spec of the Jobs; KEDA does not accept a ScaledJob without one.
func (j *job) jobSpec() batchv1.JobSpec {
	if j.Spec.JobTargetRef == nil {
		return batchv1.JobSpec{}
	}
	return *j.Spec.JobTargetRef
}

func (j *job) pod() corev1.PodTemplateSpec { return j.jobSpec().Template }

// grace returns how long a deleted pod may continue. Kubernetes' default is 30 s.
func (j *job) grace() time.Duration {
	if g := j.pod().Spec.TerminationGracePeriodSeconds; g != nil {
		return time.Duration(*g) * time.Second
	}
	return 30 * time.Second
}

// podRules are the rules about the runner's pod that depend on the options or on more than
// the Job.
func podRules() []entry {
	return []entry{
		{Rule: rule("token-life", Error, "a projected token that may expire within the grace period: the token of a terminating pod is not renewed, and a fifth of its life may be left", "set expirationSeconds to at least five times terminationGracePeriodSeconds"), one: tokenLife},
		{Rule: rule("grace-too-short", Warning, "a terminationGracePeriodSeconds shorter than the longest step: an evicted step is killed", "raise terminationGracePeriodSeconds, or set --longest-step"),
			all: func(jobs []*job, options Options, add reportAt) {
				for _, j := range jobs {
					if g := j.grace(); g < options.LongestStep {
						add(j, fmt.Sprintf("the grace period is %s, and the longest step takes %s", g, options.LongestStep), podPath("terminationGracePeriodSeconds")...)
					}
				}
			}},
		{Rule: rule("no-node-fits", Error, "requests that do not fit on any node of the cluster", "lower the requests, or add larger nodes"), all: noNodeFits},
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
		if !jobfactory.CallsSidecar(c.Command, "run") {
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
