package lint

import (
	"cmp"
	"fmt"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/jobfactory"
)

// scalingRules are the rules about the number of Jobs.
func scalingRules() []entry {
	return []entry{
		{Rule: rule("metadata-invalid", Error, "trigger metadata that the scaler refuses: an unknown key, a bad value or label, or values that contradict each other", "correct the key's value; the message says what is accepted"),
			one: func(j *job, add report) {
				if j.invalid == nil {
					return
				}
				for _, f := range j.invalid.Faults {
					add(f.String(), j.metadata(f.Key)...)
				}
			}},
		{Rule: rule("min-replica-count", Error, "minReplicaCount, which KEDA adds to what the scaler wants", "remove it: `min` in the trigger is the minimum"),
			one: func(j *job, add report) {
				if n := j.Spec.MinReplicaCount; n != nil && *n != 0 {
					add(fmt.Sprintf("minReplicaCount is %d", *n), "spec", "minReplicaCount")
				}
			}},
		{Rule: rule("scaling-strategy", Error, "a scalingStrategy other than default, with which KEDA takes the scaler's answer as a number of additional Jobs", "set scalingStrategy.strategy to default"),
			one: func(j *job, add report) {
				if s := j.Spec.ScalingStrategy.Strategy; s != "" && s != "default" {
					add(fmt.Sprintf("scalingStrategy is %q", s), "spec", "scalingStrategy", "strategy")
				}
			}},
		{Rule: rule("rollout-not-gradual", Error, "a rollout other than gradual: KEDA deletes running Jobs, including busy ones, when the ScaledJob changes", "set rollout.strategy to gradual"),
			one: func(j *job, add report) {
				if s := j.Spec.Rollout.Strategy; s != "gradual" {
					add(fmt.Sprintf("rollout strategy is %q", s), "spec", "rollout", "strategy")
				}
			}},
		{Rule: rule("max-replica-count", Error, "a maxReplicaCount other than the trigger's maximum", "set maxReplicaCount to the trigger's `max` (`count` with fixed)"),
			one: maxReplicaCount},
		{Rule: rule("external-push", Error, "a trigger of another type than external, such as external-push, which never scales a ScaledJob", "set the trigger's type to external"),
			one: func(j *job, add report) {
				if t := j.Spec.Triggers[j.trigger]; t.Type != "external" {
					add("the trigger is of type "+cmp.Or(t.Type, "none"), append(j.metadata("")[:3], "type")...)
				}
			}},
		{Rule: rule("second-trigger", Error, "a second trigger, or multipleScalersCalculation: another trigger's number would prevent scale-down", "keep only the scaler's trigger, and remove multipleScalersCalculation"),
			one: func(j *job, add report) {
				if n := len(j.Spec.Triggers); n > 1 {
					add(fmt.Sprintf("%d triggers", n), "spec", "triggers")
				}
				if c := j.Spec.ScalingStrategy.MultipleScalersCalculation; c != "" {
					add(fmt.Sprintf("multipleScalersCalculation is %q", c), "spec", "scalingStrategy", "multipleScalersCalculation")
				}
			}},
		{Rule: rule("nobody-online", Warning, "`min: 0`: Bitbucket fails a step at once if no runner with its labels is online when it is reached, before one can be started", "set `min` to at least 1, unless another runner with these labels is always online"),
			one: nobodyOnline},
		{Rule: rule("ephemeral-without-spare", Warning, "`spare: 0` with ephemeral runners that follow the ratio: steps wait until a used runner is replaced", "set `spare` to at least 1, or leave it out"),
			one: func(j *job, add report) {
				if r := j.group.Rules; j.invalid == nil && r.Strategy == policy.PercentageRunnersIdle && r.Ephemeral && r.Spare == 0 {
					add("spare is 0, and ephemeral is true", j.metadata("spare")...)
				}
			}},
		{Rule: rule("reserved-namespace", Error, "a runner group in the control plane's namespace, which has the credentials, or in one of Kubernetes' own namespaces", "use another namespace for the group"),
			one: func(j *job, add report) {
				if jobfactory.ReservedNamespace(j.Namespace) {
					add(fmt.Sprintf("namespace is %q", j.Namespace), "metadata", "namespace")
				}
			}},
		{Rule: rule("scaler-tls", Error, "a scaler address that is not host:port, or TLS settings of KEDA and the sidecar that do not match", "set scalerAddress to host:port, the same for KEDA and the sidecar, and set either both enableTLS and authenticationRef or neither"),
			one: scalerTLS},
	}
}

func maxReplicaCount(j *job, add report) {
	if j.invalid != nil {
		return
	}
	// KEDA's own default (apis/keda/v1alpha1, defaultScaledJobMaxReplicaCount).
	given := int32(100)
	if n := j.Spec.MaxReplicaCount; n != nil {
		given = *n
	}
	if want := int32(max(j.group.Highest(), 1)); given != want {
		add(fmt.Sprintf("maxReplicaCount is %d, and the trigger's maximum is %d", given, want), "spec", "maxReplicaCount")
	}
}

// nobodyOnline finds minimums of 0, also those of time windows.
func nobodyOnline(j *job, add report) {
	if r := j.group.Rules; j.invalid == nil && r.Strategy == policy.QueuedSteps && r.Min == 0 {
		add("min is 0", j.metadata("min")...)
	}
	for _, w := range j.group.Windows {
		if w.Min != nil && *w.Min == 0 {
			add("min is 0 while this window is open: "+w.String(), j.metadata("schedules")...)
		}
	}
}
