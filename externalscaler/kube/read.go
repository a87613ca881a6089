package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// scaledJob contains the fields of KEDA's ScaledJob that are read. KEDA's own types
// would add about 900 packages to the build.
type scaledJob struct {
	Spec struct {
		PollingInterval *int32 `json:"pollingInterval"`
		ScalingStrategy struct {
			MultipleScalersCalculation string `json:"multipleScalersCalculation"`
		} `json:"scalingStrategy"`
		Triggers []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// defaultPolling is KEDA's default, in seconds (apis/keda/v1alpha1/withtriggers_types.go).
const defaultPolling = 30

// ScaledJobs implements fleet.Kubernetes. Nobody may change the values.
func (c *Cluster) ScaledJobs() []fleet.ScaledJob {
	return c.kept.scaledJobs.at(c.kept.version.Load(), c.readScaledJobs)
}

func (c *Cluster) readScaledJobs() []fleet.ScaledJob {
	var found []fleet.ScaledJob
	for _, obj := range c.scaledJobs.GetStore().List() {
		if u, ok := obj.(*unstructured.Unstructured); ok {
			if s, ok := c.scaledJobOf(u); ok {
				found = append(found, s)
			}
		}
	}
	return found
}

// scaledJobOf reads a ScaledJob. It returns false if no trigger names this installation.
func (c *Cluster) scaledJobOf(u *unstructured.Unstructured) (fleet.ScaledJob, bool) {
	if !c.named(u) {
		return fleet.ScaledJob{}, false
	}
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return fleet.ScaledJob{}, false
	}
	var s scaledJob
	if err := json.Unmarshal(raw, &s); err != nil {
		return fleet.ScaledJob{}, false // the API server checks every ScaledJob against KEDA's schema
	}
	for _, trigger := range s.Spec.Triggers {
		if trigger.Type != "external" && trigger.Type != "external-push" || !c.serves(trigger.Metadata["scalerAddress"], u.GetNamespace()) {
			continue
		}
		return fleet.ScaledJob{
			GroupKey: fleet.GroupKey{Namespace: u.GetNamespace(), Name: u.GetName()},
			UID:      string(u.GetUID()), CreatedOn: u.GetCreationTimestamp().Time,
			Generation:      strconv.FormatInt(u.GetGeneration(), 10),
			PollingInterval: time.Duration(ptr.Deref(s.Spec.PollingInterval, defaultPolling)) * time.Second,
			Metadata:        trigger.Metadata, Hold: hold(u.GetAnnotations(), s),
		}, true
	}
	return fleet.ScaledJob{}, false
}

// named reports whether a trigger names this installation. Most ScaledJobs of a cluster
// do not, and then nothing else is read.
func (c *Cluster) named(u *unstructured.Unstructured) bool {
	triggers, _, err := unstructured.NestedFieldNoCopy(u.Object, "spec", "triggers")
	list, ok := triggers.([]any)
	return err == nil && ok && slices.ContainsFunc(list, func(entry any) bool {
		trigger, _ := entry.(map[string]any)
		metadata, _ := trigger["metadata"].(map[string]any)
		address, _ := metadata["scalerAddress"].(string)
		return c.serves(address, u.GetNamespace())
	})
}

// hold returns why a group must not be scaled down, or "".
func hold(annotations map[string]string, s scaledJob) string {
	switch value, annotated := annotations[pausedAnnotation]; {
	case annotated && pausedBy(value):
		return "the ScaledJob is paused (annotation autoscaling.keda.sh/paused)"
	case len(s.Spec.Triggers) > 1:
		return fmt.Sprintf("the ScaledJob has %d triggers: KEDA uses the largest value, which conflicts with the scale-down", len(s.Spec.Triggers))
	case s.Spec.ScalingStrategy.MultipleScalersCalculation != "":
		return "the ScaledJob sets multipleScalersCalculation, which conflicts with the scale-down"
	}
	return ""
}

// pausedBy interprets the annotation as KEDA does: a value that is not a boolean pauses
// (apis/keda/v1alpha1/scaledjob_types.go, NeedToBePausedByAnnotation).
func pausedBy(value string) bool {
	paused, err := strconv.ParseBool(value)
	return err != nil || paused
}

// generationAnnotation is where KEDA writes the ScaledJob's generation on a Job
// (pkg/scaling/executor/scale_jobs.go).
const generationAnnotation = "scaledjob.keda.sh/generation"

// DrainAnnotation on a Job asks that its runner ends in order. Its value is when that was asked
// for; an empty one asks for nothing.
const DrainAnnotation = "bitbucket-runner-scaler/drain"

// Jobs implements fleet.Kubernetes. Nobody may change the values. Pods that were read before are
// read again: one that these Jobs show must not be missing among them.
func (c *Cluster) Jobs() []fleet.Job {
	return c.kept.jobs.at(c.kept.version.Load(), func() []fleet.Job {
		defer c.kept.pods.forget()
		return c.readJobs()
	})
}

func (c *Cluster) readJobs() []fleet.Job {
	var found []fleet.Job
	for _, obj := range c.jobs.GetStore().List() {
		job, ok := obj.(*batchv1.Job)
		if !ok {
			continue
		}
		owner, ok := controlledBy(job, "ScaledJob", scaledJobs.Group)
		if !ok {
			continue
		}
		pod := c.podOfJob(job)
		failed := failure(job, pod)
		if finished(job) && failed == nil {
			continue
		}
		read := fleet.Job{
			ResourceVersion: job.ResourceVersion,
			Namespace:       job.Namespace, Name: job.Name, UID: string(job.UID), ScaledJobUID: owner,
			Generation: job.Annotations[generationAnnotation], Drain: job.Annotations[DrainAnnotation] != "",
			CreatedOn: job.CreationTimestamp.Time, Failed: failed,
		}
		if pod == nil {
			read.Waits = c.warnings.of(job.UID)
		} else {
			own := podOf(pod)
			if own.Waits == (fleet.Cause{}) {
				own.Waits = c.warnings.of(pod.UID)
			}
			read.Pod = &own
		}
		found = append(found, read)
	}
	return found
}

// finished reports whether a Job has a true condition Complete or Failed, as KEDA does
// (pkg/scaling/executor/scale_jobs.go).
func finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(condition batchv1.JobCondition) bool {
		return (condition.Type == batchv1.JobComplete || condition.Type == batchv1.JobFailed) && condition.Status == corev1.ConditionTrue
	})
}

// podOfJob returns the pod that counts for a Job: an unfinished pod rather than a
// finished one, then the oldest. A Job creates no second pod while it has one, but
// anyone who may create pods in the namespace can create one that names the Job as its
// owner.
func (c *Cluster) podOfJob(job *batchv1.Job) (found *corev1.Pod) {
	pods, err := c.pods.GetIndexer().ByIndex(byOwner, job.Namespace+"/"+string(job.UID))
	if err != nil {
		return nil
	}
	for _, obj := range pods {
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			continue
		}
		switch {
		case found == nil, ended(found) && !ended(pod), ended(found) == ended(pod) && pod.CreationTimestamp.Before(&found.CreationTimestamp):
			found = pod
		}
	}
	return found
}

// ended reports whether a pod's phase is a last one.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Pods implements fleet.Kubernetes. Nobody may change the values.
func (c *Cluster) Pods() []fleet.Pod { return c.kept.pods.at(c.kept.version.Load(), c.readPods) }

func (c *Cluster) readPods() []fleet.Pod {
	var found []fleet.Pod
	for _, obj := range c.pods.GetStore().List() {
		if pod, ok := obj.(*corev1.Pod); ok {
			if pod := podOf(pod); !pod.Finished {
				found = append(found, pod)
			}
		}
	}
	return found
}

func podOf(pod *corev1.Pod) fleet.Pod {
	return fleet.Pod{
		Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), CreatedOn: pod.CreationTimestamp.Time,
		Node: pod.Spec.NodeName, Deleting: pod.DeletionTimestamp != nil,
		ScheduledOn: scheduledOn(pod), SidecarOn: startedOn(pod.Status.InitContainerStatuses, "sidecar"), RunnerOn: startedOn(pod.Status.ContainerStatuses, "runner"),
		Finished: ended(pod), Waits: waits(pod),
	}
}
