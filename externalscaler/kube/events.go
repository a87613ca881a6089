package kube

import (
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/reaper"
)

// recorder writes Events. client-go's recorder combines repeated Events and limits their
// rate.
type recorder struct {
	broadcaster record.EventBroadcaster
	record.EventRecorder
}

func newRecorder(client kubernetes.Interface) *recorder {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &recorder{broadcaster: broadcaster, EventRecorder: broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component})}
}

func (r *recorder) close() { r.broadcaster.Shutdown() }

// component is the source of our Events.
const component = "bitbucket-runner-scaler"

// Event implements reaper.Events. It writes an Event on the group's ScaledJob, and on the Job that
// it is about.
func (c *Cluster) Event(group fleet.GroupKey, uid string, event reaper.Event) {
	kind := corev1.EventTypeNormal
	if event.Warning {
		kind = corev1.EventTypeWarning
	}
	c.recorder.Event(&corev1.ObjectReference{
		APIVersion: scaledJobs.GroupVersion().String(), Kind: "ScaledJob",
		Namespace: group.Namespace, Name: group.Name, UID: types.UID(uid),
	}, kind, event.Reason, event.Message)
	if job := event.Job; job != nil {
		c.recorder.Event(&corev1.ObjectReference{
			APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job",
			Namespace: job.Namespace, Name: job.Name, UID: types.UID(job.UID),
		}, kind, event.Reason, event.Message)
	}
}
