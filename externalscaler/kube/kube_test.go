package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"

	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/registrar"
)

// patience bounds every wait for a condition.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTokenReviewNamesThePod(t *testing.T) {
	sound := func(change func(*authenticationv1.TokenReviewStatus)) authenticationv1.TokenReviewStatus {
		s := authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: []string{runnerv1.Audience},
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:team:runner", Extra: map[string]authenticationv1.ExtraValue{
				podNameKey: {"pod"}, podUIDKey: {"uid"},
			}},
		}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		change func(*authenticationv1.TokenReviewStatus)
		want   registrar.Identity
	}{
		"valid":              {func(*authenticationv1.TokenReviewStatus) {}, registrar.Identity{Namespace: "team", PodName: "pod", PodUID: "uid"}},
		"not authenticated":  {func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false }, registrar.Identity{}},
		"a user":             {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "alice" }, registrar.Identity{}},
		"not bound to a pod": {func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }, registrar.Identity{}},
		"no UID":             {func(s *authenticationv1.TokenReviewStatus) { delete(s.User.Extra, podUIDKey) }, registrar.Identity{}},
		"two pods":           {func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[podNameKey] = []string{"a", "b"} }, registrar.Identity{}},
		"another audience":   {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"vault"} }, registrar.Identity{}},
		"no audiences":       {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }, registrar.Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := identity(sound(c.change))
			if got != c.want || (err == nil) != (c.want.PodUID != "") || err != nil && !errors.Is(err, registrar.ErrToken) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestScalerAddressesOfThisInstallation(t *testing.T) {
	serves := ServiceNames("scaler", "system", "10.0.0.1:9090")
	for address, want := range map[string]bool{
		"scaler.system:9090": true, "scaler.system.svc:9090": true, "scaler.system.svc.cluster.local:9090": true, "scaler.system.svc.cluster.local.:9090": true,
		"dns:///scaler.system.svc:9090": true, "scaler.system": true, "10.0.0.1:9090": true,
		"": false, ":9090": false, "scaler:9090": false, "scaler.other:9090": false, "other.system:9090": false, "scaler.system.example.com:9090": false, "10.0.0.1:9091": false,
	} {
		if got := serves(address, "team"); got != want {
			t.Errorf("%q: got %v, want %v", address, got, want)
		}
	}
	unnamed := ServiceNames("", "", "") // neither a Service nor an address is configured
	for _, address := range []string{"", ":9090", ".system:9090", "scaler.system:9090"} {
		if unnamed(address, "") {
			t.Errorf("%q: got true without one of the Service's names or addresses", address)
		}
	}
	if !serves("scaler:9090", "system") {
		t.Error("a short name in our own namespace: got false, want true")
	}
}

func TestScaleDownIsHeld(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		change      func(*scaledJob)
		held        bool
	}{
		"nothing":                 {},
		"paused":                  {annotations: map[string]string{"autoscaling.keda.sh/paused": "true"}, held: true},
		"paused by an odd value":  {annotations: map[string]string{"autoscaling.keda.sh/paused": ""}, held: true},
		"not paused":              {annotations: map[string]string{"autoscaling.keda.sh/paused": "false"}},
		"not paused, as KEDA has": {annotations: map[string]string{"autoscaling.keda.sh/paused": "F"}},
		"a second trigger":        {change: func(s *scaledJob) { s.Spec.Triggers = append(s.Spec.Triggers, s.Spec.Triggers[0]) }, held: true},
		"a calculation":           {change: func(s *scaledJob) { s.Spec.ScalingStrategy.MultipleScalersCalculation = "sum" }, held: true},
	} {
		var s scaledJob
		s.Spec.Triggers = append(s.Spec.Triggers, struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		}{Type: "external"})
		if c.change != nil {
			c.change(&s)
		}
		if got := hold(c.annotations, s); (got != "") != c.held {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestFinishedAgreesWithKEDA(t *testing.T) {
	for name, c := range map[string]struct {
		conditions []batchv1.JobCondition
		want       bool
	}{
		"no condition": {},
		"complete":     {[]batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}, true},
		"failed":       {[]batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue}}, true},
		"not complete": {[]batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionFalse}}, false},
		"suspended":    {[]batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}, false},
		"about to end": {[]batchv1.JobCondition{{Type: batchv1.JobFailureTarget, Status: corev1.ConditionTrue}}, false},
	} {
		if got := finished(&batchv1.Job{Status: batchv1.JobStatus{Conditions: c.conditions}}); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

var (
	controller = true
	noon       = metav1.NewTime(time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC))
)

var apiVersions = map[string]string{"Job": "batch/v1", "CronJob": "batch/v1", "ScaledJob": "keda.sh/v1alpha1"}

func meta(name, uid, ownerKind, ownerUID string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: "team", Name: name, UID: types.UID(uid), CreationTimestamp: noon, Labels: map[string]string{ScaledJobLabel: "builds"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersions[ownerKind], Kind: ownerKind, UID: types.UID(ownerUID), Controller: &controller}},
	}
}

func pod(name, uid, jobUID string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name, uid, "Job", jobUID), Status: corev1.PodStatus{Phase: phase}}
}

func trigger(kind, address string) any {
	return map[string]any{"type": kind, "metadata": map[string]any{"scalerAddress": address, "workspace": "acme"}}
}

func scaledJobObject(name, uid string, triggers ...any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
		"metadata": map[string]any{"namespace": "team", "name": name, "uid": uid},
		"spec":     map[string]any{"triggers": triggers},
	}}
}

// watch starts a Cluster with fake clients that contain these objects.
func watch(t *testing.T, objects []runtime.Object, scaledJobObjects ...runtime.Object) (*Cluster, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	dynamicClient := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{scaledJobs: "ScaledJobList"}, scaledJobObjects...)
	c, err := newCluster(client, dynamicClient, ServiceNames("scaler", "system"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); c.Stop() })
	if err := c.Start(ctx, patience); err != nil {
		t.Fatal(err)
	}
	return c, client
}

func TestJobsReturnsUnfinishedJobsOfScaledJobsWithTheirPod(t *testing.T) {
	job := &batchv1.Job{ObjectMeta: meta("builds-1", "job", "ScaledJob", "builds-uid")}
	done := &batchv1.Job{ObjectMeta: meta("builds-2", "done", "ScaledJob", "builds-uid"), Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}}
	foreign := &batchv1.Job{ObjectMeta: meta("cron-1", "cron", "CronJob", "cron-uid")}
	failed, live := pod("builds-1-b", "failed", "job", corev1.PodFailed), pod("builds-1-a", "live", "job", corev1.PodRunning)
	failed.CreationTimestamp = metav1.NewTime(noon.Add(time.Minute))
	// Anyone who may create pods can name the Job as their owner, also later and in
	// another namespace.
	elsewhere, later, ofAnotherKind := pod("intruder", "1", "job", corev1.PodRunning), pod("builds-1-x", "2", "job", corev1.PodRunning), pod("builds-1-y", "3", "job", corev1.PodRunning)
	elsewhere.Namespace, elsewhere.CreationTimestamp, elsewhere.Labels = "intruders", metav1.NewTime(noon.Add(-time.Hour)), map[string]string{ScaledJobLabel: "builds"}
	later.CreationTimestamp = metav1.NewTime(noon.Add(time.Minute))
	ofAnotherKind.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
	ofAnotherKind.OwnerReferences[0].APIVersion = "example.com/v1"
	c, client := watch(t, []runtime.Object{job, done, foreign, failed, live, elsewhere, later, ofAnotherKind, pod("builds-2-a", "old", "done", corev1.PodSucceeded)})
	want := []fleet.Job{{
		Namespace: "team", Name: "builds-1", UID: "job", ScaledJobUID: "builds-uid", CreatedOn: noon.Time,
		Pod: &fleet.Pod{Namespace: "team", Name: "builds-1-a", UID: "live", CreatedOn: noon.Time},
	}}
	if diff := cmp.Diff(want, c.Jobs()); diff != "" {
		t.Errorf("got %s", diff)
	}
	pods, err := c.LivePods(t.Context())
	if err != nil || len(pods) != 4 {
		t.Errorf("live pods: got %+v, %v", pods, err)
	}
	changed := make(chan struct{}, 100)
	c.OnChange(func() { changed <- struct{}{} })
	if err := client.BatchV1().Jobs("team").Delete(t.Context(), "builds-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(patience)
	for len(c.Jobs()) != 0 {
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("the deletion was not reported")
		}
	}
}

func TestScaledJobsReturnsThoseOfThisInstallation(t *testing.T) {
	c, _ := watch(t, nil,
		scaledJobObject("ours", "1", trigger("external", "scaler.system:9090")),
		scaledJobObject("others", "2", trigger("external", "scaler.elsewhere:9090")),
		scaledJobObject("cron", "3", trigger("cron", "scaler.system:9090")),
		scaledJobObject("none", "4"),
		scaledJobObject("two", "5", trigger("cron", ""), trigger("external-push", "scaler.system:9090")),
	)
	held := map[string]bool{}
	for _, s := range c.ScaledJobs() {
		held[s.Name] = s.Hold != ""
		if s.Metadata["workspace"] != "acme" || s.Namespace != "team" || s.UID == "" {
			t.Errorf("got %+v", s)
		}
	}
	if diff := cmp.Diff(map[string]bool{"ours": false, "two": true}, held); diff != "" {
		t.Errorf("got %s", diff)
	}
}
