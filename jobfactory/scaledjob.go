package jobfactory

import (
	"errors"
	"fmt"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	appName = "bitbucket-runner"
	product = "bitbucket-runner-scaler"
	// jobHistory is how many finished Jobs KEDA keeps of each kind: enough to read
	// the last logs; its default is 100.
	jobHistory = 2
)

// ScaledJob is the group's ScaledJob. Equal groups give equal ones. The error is
// that of Validate.
func ScaledJob(g RunnerGroup) (*kedav1alpha1.ScaledJob, error) {
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("runner group %q: %w", g.Name, err)
	}
	template, faults := podTemplate(g)
	if len(faults) > 0 {
		return nil, fmt.Errorf("runner group %q: %w", g.Name, errors.Join(faults...))
	}
	return &kedav1alpha1.ScaledJob{
		TypeMeta:   metav1.TypeMeta{APIVersion: kedav1alpha1.SchemeGroupVersion.String(), Kind: "ScaledJob"},
		ObjectMeta: metav1.ObjectMeta{Name: g.Name, Namespace: g.Namespace, Labels: appLabels()},
		Spec: kedav1alpha1.ScaledJobSpec{
			// No MinReplicaCount: KEDA would add it on top of what the scaler wants.
			// MaxReplicaCount must be the scaler's own maximum, and KEDA wants at least 1.
			MaxReplicaCount:            ptr.To(int32(max(g.Group.Rules.MaxRunners(), 1))),
			PollingInterval:            ptr.To(int32(g.PollingInterval.Seconds())),
			SuccessfulJobsHistoryLimit: ptr.To[int32](jobHistory),
			FailedJobsHistoryLimit:     ptr.To[int32](jobHistory),
			// Any other strategy takes the answer for a number of further Jobs.
			ScalingStrategy: kedav1alpha1.ScalingStrategy{Strategy: "default"},
			// The default deletes the running Jobs, busy ones too, on each change.
			Rollout:      kedav1alpha1.Rollout{Strategy: "gradual"},
			Triggers:     []kedav1alpha1.ScaleTriggers{trigger(g)},
			JobTargetRef: jobSpec(template),
		},
	}, nil
}

func trigger(g RunnerGroup) kedav1alpha1.ScaleTriggers {
	t := kedav1alpha1.ScaleTriggers{Type: "external", Metadata: g.Group.Metadata()}
	t.Metadata["scalerAddress"] = g.ScalerAddress
	if g.TLS {
		t.Metadata["enableTLS"] = "true"
		t.AuthenticationRef = &kedav1alpha1.AuthenticationRef{Name: TriggerAuthentication}
	}
	return t
}

// authentication is where KEDA reads by which authority it verifies the scaler.
func authentication(namespace string) *kedav1alpha1.TriggerAuthentication {
	return &kedav1alpha1.TriggerAuthentication{
		TypeMeta:   metav1.TypeMeta{APIVersion: kedav1alpha1.SchemeGroupVersion.String(), Kind: "TriggerAuthentication"},
		ObjectMeta: metav1.ObjectMeta{Name: TriggerAuthentication, Namespace: namespace, Labels: appLabels()},
		Spec: kedav1alpha1.TriggerAuthenticationSpec{ConfigMapTargetRef: []kedav1alpha1.AuthConfigMapTargetRef{
			{Parameter: "caCert", Name: runnerv1.AuthorityConfigMap, Key: runnerv1.AuthorityKey},
		}},
	}
}

func appLabels() map[string]string {
	return map[string]string{"app.kubernetes.io/name": appName, "app.kubernetes.io/part-of": product}
}

func jobSpec(template corev1.PodTemplateSpec) *batchv1.JobSpec {
	return &batchv1.JobSpec{
		Parallelism: ptr.To[int32](1),
		Completions: ptr.To[int32](1),
		// A runner belongs to one pod: a second pod of the Job would be another's.
		BackoffLimit:         ptr.To[int32](0),
		PodReplacementPolicy: ptr.To(batchv1.Failed),
		Template:             template,
	}
}
