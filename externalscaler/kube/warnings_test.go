package kube

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func warning(name, about, reason, message string, on time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "team", Name: name},
		InvolvedObject: corev1.ObjectReference{UID: types.UID(about)},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.NewTime(on),
	}
}

// ours is an Event that we have written.
func ours(name, about, reason, message string, on time.Time) *corev1.Event {
	event := warning(name, about, reason, message, on)
	event.Source.Component = component
	return event
}

// lists counts the lists of Events.
func lists(client *fake.Clientset) (n int) {
	for _, action := range client.Actions() {
		if action.Matches("list", "events") {
			n++
		}
	}
	return n
}

func TestWhyAJobHasNoPodIsReadFromItsEvents(t *testing.T) {
	refused := &batchv1.Job{ObjectMeta: meta("builds-1", "refused", "ScaledJob", "builds-uid")}
	stuck, pulls := &batchv1.Job{ObjectMeta: meta("builds-2", "stuck", "ScaledJob", "builds-uid")}, &batchv1.Job{ObjectMeta: meta("builds-3", "pulls", "ScaledJob", "builds-uid")}
	of := func(job, uid string) *corev1.Pod {
		p := pod(job+"-a", uid, job, corev1.PodPending)
		p.Spec.NodeName = "node"
		return p
	}
	mounting, pulling := of("stuck", "mounting"), of("pulls", "pulling")
	pulling.Status.ContainerStatuses = []corev1.ContainerStatus{waitingFor("runner", "ImagePullBackOff", "")}
	c, client := watch(t, []runtime.Object{
		refused, stuck, pulls, mounting, pulling,
		warning("1", "refused", "FailedCreate", "an old cause", noon.Time),
		warning("3", "refused", "FailedCreate", "Error creating: pods \"builds-1-x\" is forbidden:\nexceeded quota", noon.Add(time.Second)),
		warning("4", "mounting", "FailedMount", "configmap not found", noon.Time),
		ours("8", "mounting", "JobWaiting", "Job mounting does not come to a runner", noon.Add(2*time.Minute)),
		warning("5", "mounting", "Unhealthy", "Startup probe failed", noon.Add(time.Minute)),
		warning("6", "pulling", "Failed", "its status shows more", noon.Time),
		warning("7", "another", "FailedCreate", "of something else", noon.Time),
	}, scaledJobObject("builds", "builds-uid", trigger("external", "scaler.system:9090")))
	now := noon.Add(slowAfter)
	if err := c.readWarnings(t.Context(), now.Add(-time.Second)); err != nil || lists(client) != 0 {
		t.Fatalf("%d lists of Events before anything is slow, %v", lists(client), err)
	}
	for at := now; at.Before(now.Add(warningsAgain)); at = at.Add(warningsEvery) {
		if err := c.readWarnings(t.Context(), at); err != nil || lists(client) != 1 {
			t.Fatalf("%d lists of Events, want one within %v, %v", lists(client), warningsAgain, err)
		}
	}
	got := map[string]fleet.Cause{}
	for _, job := range c.Jobs() {
		got[job.Name] = job.Waits
		if job.Pod != nil {
			got[job.Name] = job.Pod.Waits
		}
	}
	if cause := got["builds-1"]; cause.Reason != "FailedCreate" || !strings.HasSuffix(cause.Message, "is forbidden: exceeded quota") {
		t.Errorf("no pod: got %+v", cause)
	}
	if cause := got["builds-2"]; cause != (fleet.Cause{Reason: "FailedMount", Message: "configmap not found"}) {
		t.Errorf("a volume: got %+v", cause)
	}
	if cause := got["builds-3"]; cause.Reason != "ImagePullBackOff" {
		t.Errorf("an image: got %+v", cause)
	}
}

func TestEventsOfOtherInstallationsAreNotRead(t *testing.T) {
	c, client := watch(t, []runtime.Object{&batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}},
		scaledJobObject("builds", "builds-uid", trigger("external", "scaler.elsewhere:9090")))
	if err := c.readWarnings(t.Context(), noon.Add(time.Hour)); err != nil || lists(client) != 0 {
		t.Errorf("%d lists, %v", lists(client), err)
	}
}

func TestACauseIsFoundBehindManyEventsOfOthers(t *testing.T) {
	c, client := watch(t, nil)
	pages := 0
	client.PrependReactor("list", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
		pages++
		page := &corev1.EventList{ListMeta: metav1.ListMeta{Continue: "more"}}
		for range maxWarnings {
			page.Items = append(page.Items, *warning("a", "another", "FailedCreate", "of something else", noon.Time))
		}
		if pages == 3 {
			page.Items = append(page.Items, *warning("z", "ours", "FailedCreate", "exceeded quota", noon.Time))
		}
		return true, page, nil
	})
	found, err := c.warningsIn(t.Context(), "team", map[types.UID]struct{}{"ours": {}})
	if err != nil || found["ours"].Message != "exceeded quota" || pages != maxPages {
		t.Errorf("got %+v after %d pages, %v; want the cause, and at most %d pages", found, pages, err, maxPages)
	}
}
