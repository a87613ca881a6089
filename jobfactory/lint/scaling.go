package lint

import (
	"fmt"
	"slices"

	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/jobfactory"
)

// scalingRules look at what tells KEDA and the scaler how many Jobs there should be.
func scalingRules() []entry {
	return []entry{
		{Rule: Rule{"metadata-invalid", Error, "trigger metadata that the scaler refuses: an unknown key, a bad value or label, a pair that contradicts itself", "give the key the accepted form"},
			one: func(j *job, add report) {
				if j.invalid == nil {
					return
				}
				for _, f := range j.invalid.Faults {
					add(f.String(), j.metadata(f.Key)...)
				}
			}},
		{Rule: Rule{"min-replica-count", Error, "minReplicaCount, which KEDA adds on top of what the scaler wants", "remove it: `min` in the trigger is the minimum"},
			one: func(j *job, add report) {
				if n := j.Spec.MinReplicaCount; n != nil && *n != 0 {
					add(fmt.Sprintf("minReplicaCount is %d", *n), "spec", "minReplicaCount")
				}
			}},
		{Rule: Rule{"scaling-strategy", Error, "a scalingStrategy other than default, which takes the answer for a number of further Jobs", "set scalingStrategy.strategy to default"},
			one: func(j *job, add report) {
				if s := j.Spec.ScalingStrategy.Strategy; s != "" && s != "default" {
					add(fmt.Sprintf("scalingStrategy is %q", s), "spec", "scalingStrategy", "strategy")
				}
			}},
		{Rule: Rule{"rollout-not-gradual", Error, "a rollout other than gradual: KEDA deletes running Jobs, busy ones too, when the ScaledJob changes", "set rollout.strategy to gradual"},
			one: func(j *job, add report) {
				if s := j.Spec.Rollout.Strategy; s != "gradual" {
					add(fmt.Sprintf("rollout strategy is %q", s), "spec", "rollout", "strategy")
				}
			}},
		{Rule: Rule{"max-replica-count", Error, "a maxReplicaCount other than the trigger's maximum", "set maxReplicaCount to the trigger's `max` (`count` with fixed)"},
			one: maxReplicaCount},
		{Rule: Rule{"external-push", Error, "a trigger of type external-push, which never scales a ScaledJob", "set the trigger's type to external"},
			one: func(j *job, add report) {
				if t := j.Spec.Triggers[j.trigger]; t.Type == "external-push" {
					add("the trigger is of type external-push", append(j.metadata("")[:3], "type")...)
				}
			}},
		{Rule: Rule{"second-trigger", Error, "a second trigger, or multipleScalersCalculation: another's number would fight the scale-down", "keep one trigger, the scaler's, and no multipleScalersCalculation"},
			one: func(j *job, add report) {
				if n := len(j.Spec.Triggers); n > 1 {
					add(fmt.Sprintf("%d triggers", n), "spec", "triggers")
				}
				if c := j.Spec.ScalingStrategy.MultipleScalersCalculation; c != "" {
					add(fmt.Sprintf("multipleScalersCalculation is %q", c), "spec", "scalingStrategy", "multipleScalersCalculation")
				}
			}},
		{Rule: Rule{"min-zero", Warning, "`min: 0`: a step that finds no runner online fails at once", "set `min` to at least 1"},
			one: func(j *job, add report) {
				if r := j.group.Rules; j.invalid == nil && r.Strategy != policy.Fixed && r.Min == 0 {
					add("min is 0", j.metadata("min")...)
				}
			}},
		{Rule: Rule{"ephemeral-without-spare", Warning, "`spare: 0` with ephemeral runners: until a used one is replaced, steps wait", "set `spare` to at least 1, or leave it out"},
			one: func(j *job, add report) {
				if r := j.group.Rules; j.invalid == nil && r.Strategy != policy.Fixed && r.Ephemeral && r.Spare == 0 {
					add("spare is 0 and ephemeral true", j.metadata("spare")...)
				}
			}},
		{Rule: Rule{"reserved-namespace", Error, "a runner group in the control plane's namespace, which holds the credentials, or in one of Kubernetes' own", "move it to a namespace of its own"},
			one: func(j *job, add report) {
				if slices.Contains([]string{jobfactory.ControlPlaneNamespace, "kube-system", "kube-public", "kube-node-lease"}, j.Namespace) {
					add(fmt.Sprintf("namespace is %q", j.Namespace), "metadata", "namespace")
				}
			}},
		{Rule: Rule{"scaler-tls", Error, "a scaler address, TLS setting and authenticationRef that do not fit together", "set scalerAddress to host:port, and enableTLS with an authenticationRef, or neither"},
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
	if want := int32(max(j.group.Rules.MaxRunners(), 1)); given != want {
		add(fmt.Sprintf("maxReplicaCount is %d, the trigger's maximum %d", given, want), "spec", "maxReplicaCount")
	}
}
