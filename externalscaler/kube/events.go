package kube

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"bitbucket-runner-scaler/externalscaler/fleet"
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
	return &recorder{broadcaster: broadcaster, EventRecorder: broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "bitbucket-runner-scaler"})}
}

func (r *recorder) close() { r.broadcaster.Shutdown() }

// Event implements reaper.Events. It writes an Event on the group's ScaledJob.
func (c *Cluster) Event(group fleet.GroupKey, uid, reason, message string) {
	c.recorder.Event(&corev1.ObjectReference{
		APIVersion: scaledJobs.GroupVersion().String(), Kind: "ScaledJob",
		Namespace: group.Namespace, Name: group.Name, UID: types.UID(uid),
	}, corev1.EventTypeNormal, reason, message)
}
