package jobfactory

import (
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// JobRules returns the rules about the Job of a runner and its pod.
func JobRules() []JobRule {
	return slices.Concat(ownRules(), podRules(), dockerRules())
}

// ownRules are the rules about the Job itself and what keeps it alive.
func ownRules() []JobRule {
	return []JobRule{
		{Rule{"job-deadline", Error, "a deadline of the Job or its pod, which kills a busy runner", "remove activeDeadlineSeconds: Bitbucket ends steps that take too long, and the trigger's `maxAge` replaces idle runners"}, true, deadline},
		{Rule{"one-pod-per-job", Error, "a Job that may have more than one pod: a runner belongs to one pod", "set parallelism and completions to 1, backoffLimit to 0, podReplacementPolicy to Failed and the pod's restartPolicy to Never"}, true, onePodPerJob},
		{Rule{"job-suspended", Error, "a suspended Job, which never starts a runner", "remove suspend"}, true,
			func(j RunnerJob, report report) {
				if j.Suspend != nil && *j.Suspend {
					report("true", "none: nothing resumes the Job", "suspend")
				}
			}},
		{Rule{"eviction-protection", Warning, "a pod that cluster-autoscaler or Karpenter may evict during a step", "annotate the pod template with cluster-autoscaler.kubernetes.io/safe-to-evict \"false\" and karpenter.sh/do-not-disrupt \"true\""}, true,
			func(j RunnerJob, report report) {
				protection := EvictionProtection()
				for _, key := range slices.Sorted(maps.Keys(protection)) {
					given, ok := j.Template.Annotations[key]
					switch {
					case !ok:
						report("", "missing, want "+protection[key]+": else an autoscaler evicts runners", "template", "metadata", "annotations", key)
					case given != protection[key]:
						report(given, protection[key]+": else an autoscaler evicts runners", "template", "metadata", "annotations", key)
					}
				}
			}},
		{Rule{"injected-proxy", Error, "a container that a service mesh or a secrets agent injects and that does not end with the runner, so that the Job never ends", "turn the injection off for these pods, or let it inject a native sidecar, as the message says"}, true, injected},
	}
}

func deadline(j RunnerJob, report report) {
	const why = "none: a deadline would kill a busy runner"
	if d := j.ActiveDeadlineSeconds; d != nil {
		report(shown(*d), why, "activeDeadlineSeconds")
	}
	if d := j.Template.Spec.ActiveDeadlineSeconds; d != nil {
		report(shown(*d), why, podPath("activeDeadlineSeconds")...)
	}
}

func onePodPerJob(j RunnerJob, report report) {
	number := func(key string, given *int32, want int32, why string) {
		switch {
		case given == nil && key == "backoffLimit": // Kubernetes' default is 6
			report("", "missing, want "+shown(want)+": "+why, key)
		case given != nil && *given != want:
			report(shown(*given), shown(want)+": "+why, key)
		}
	}
	number("parallelism", j.Parallelism, 1, "a Job is one runner")
	number("completions", j.Completions, 1, "a Job is one runner")
	number("backoffLimit", j.BackoffLimit, 0, "a second pod of the Job would have another runner; KEDA creates another Job")
	if m := j.CompletionMode; m != nil && *m != batchv1.NonIndexedCompletion {
		report(string(*m), string(batchv1.NonIndexedCompletion)+": a Job is one runner", "completionMode")
	}
	switch p := j.PodReplacementPolicy; {
	case p == nil:
		report("", "missing, want Failed: else a second pod starts while the first one still finishes its step", "podReplacementPolicy")
	case *p != batchv1.Failed:
		report(string(*p), "Failed: else a second pod starts while the first one still finishes its step", "podReplacementPolicy")
	}
	if p := j.Template.Spec.RestartPolicy; p != corev1.RestartPolicyNever {
		report(string(p), "Never: a runner's Job ends with its runner", podPath("restartPolicy")...)
	}
}

// injector is how pods ask for a container of something that injects containers.
type injector struct {
	name string
	// keys are the labels or annotations of the pod or its namespace that ask for it, with
	// their values; "" means any value.
	keys map[string]string
	// unless are annotations with which the container ends with the runner.
	unless map[string]string
	// off turns the injection off for a pod.
	off [2]string
}

var injectors = []injector{
	{"Istio", map[string]string{"sidecar.istio.io/inject": "true", "istio-injection": "enabled", "istio.io/rev": ""},
		map[string]string{"sidecar.istio.io/nativeSidecar": "true"}, [2]string{"sidecar.istio.io/inject", "false"}},
	{"Linkerd", map[string]string{"linkerd.io/inject": "enabled"},
		map[string]string{"config.alpha.linkerd.io/proxy-enable-native-sidecar": "true", "config.beta.linkerd.io/proxy-enable-native-sidecar": "true"}, [2]string{"linkerd.io/inject", "disabled"}},
	{"Consul", map[string]string{"consul.hashicorp.com/connect-inject": "true"}, nil, [2]string{"consul.hashicorp.com/connect-inject", "false"}},
	{"Kuma", map[string]string{"kuma.io/sidecar-injection": "enabled"}, nil, [2]string{"kuma.io/sidecar-injection", "disabled"}},
	{"Vault's agent", map[string]string{"vault.hashicorp.com/agent-inject": "true"},
		map[string]string{"vault.hashicorp.com/agent-pre-populate-only": "true"}, [2]string{"vault.hashicorp.com/agent-inject", "false"}},
}

func injected(j RunnerJob, report report) {
	meta := j.Template.ObjectMeta
	for _, i := range injectors {
		if i.harmless(j.Template) {
			continue
		}
		switch key := slices.Sorted(maps.Keys(i.unless)); {
		case i.asked(meta.Labels) != "":
			report(meta.Labels[i.asked(meta.Labels)], i.remedy(key), "template", "metadata", "labels", i.asked(meta.Labels))
		case i.asked(meta.Annotations) != "":
			report(meta.Annotations[i.asked(meta.Annotations)], i.remedy(key), "template", "metadata", "annotations", i.asked(meta.Annotations))
		case i.asked(j.Namespace) != "":
			report("", "the namespace has "+i.asked(j.Namespace)+", want the annotation "+i.off[0]+": "+i.remedy(key), "template", "metadata", "annotations")
		}
	}
}

// asked returns the label or annotation that asks for the container, "" if there is none.
func (i injector) asked(values map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(i.keys)) {
		if given := values[key]; given != "" && (given == i.keys[key] || i.keys[key] == "") {
			return key
		}
	}
	return ""
}

// harmless reports whether the pod turns the injection off, or gets a container that
// ends with the runner.
func (i injector) harmless(pod corev1.PodTemplateSpec) bool {
	if pod.Labels[i.off[0]] == i.off[1] || pod.Annotations[i.off[0]] == i.off[1] {
		return true
	}
	for key, value := range i.unless {
		if pod.Annotations[key] == value {
			return true
		}
	}
	return false
}

func (i injector) remedy(unless []string) string {
	text := i.off[1] + ": the container of " + i.name + " does not end with the runner"
	if len(unless) > 0 {
		text += ", unless the pod has the annotation " + unless[0] + ": " + i.unless[unless[0]]
	}
	return text
}
