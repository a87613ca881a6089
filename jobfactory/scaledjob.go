package jobfactory

import (
	"fmt"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	appName = "bitbucket-runner"
	product = "bitbucket-runner-scaler"
	// jobHistory is how many successful and how many failed Jobs KEDA keeps, so that
	// the last logs can be read. KEDA's default is 100.
	jobHistory = 2
)

// ScaledJob returns the group's ScaledJob. Equal groups give equal ScaledJobs. The
// error is that of Validate.
func ScaledJob(g RunnerGroup) (*kedav1alpha1.ScaledJob, error) {
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("runner group %q: %w", g.Name, err)
	}
	template, faults := podTemplate(g)
	if err := faults.err(); err != nil {
		return nil, fmt.Errorf("runner group %q: %w", g.Name, err)
	}
	return &kedav1alpha1.ScaledJob{
		TypeMeta:   metav1.TypeMeta{APIVersion: kedav1alpha1.SchemeGroupVersion.String(), Kind: "ScaledJob"},
		ObjectMeta: metav1.ObjectMeta{Name: g.Name, Namespace: g.Namespace, Labels: appLabels()},
		Spec: kedav1alpha1.ScaledJobSpec{
			// No MinReplicaCount, because KEDA would add it to what the scaler wants.
			// MaxReplicaCount must be the scaler's own maximum; KEDA requires at least 1.
			MaxReplicaCount:            ptr.To(int32(max(g.Group.Highest(), 1))),
			PollingInterval:            ptr.To(int32(g.PollingInterval.Seconds())),
			SuccessfulJobsHistoryLimit: ptr.To[int32](jobHistory),
			FailedJobsHistoryLimit:     ptr.To[int32](jobHistory),
			// With any other strategy KEDA creates that many Jobs in addition.
			ScalingStrategy: kedav1alpha1.ScalingStrategy{Strategy: "default"},
			// By default KEDA deletes running Jobs, including busy ones, on each change.
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

// authentication returns the object that names the authority by which KEDA verifies
// the scaler.
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
		// A runner belongs to one pod, so a second pod of the Job would have another runner.
		BackoffLimit:         ptr.To[int32](0),
		PodReplacementPolicy: ptr.To(batchv1.Failed),
		Template:             template,
	}
}
