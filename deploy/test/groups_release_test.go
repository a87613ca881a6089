package deploytest

import (
	"slices"
	"strings"
	"testing"

	kedav1alpha1 "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	corev1 "k8s.io/api/core/v1"
)

// The image and the address are those of the release, wherever it is.
func TestGroupsBelongToTheirRelease(t *testing.T) {
	values := parsed(t, `{image: {repository: registry.example.com/scaler, tag: v7}, groups: [{name: a, workspace: acme, labels: [a]}, {name: b, workspace: acme, labels: [b], namespace: second, scaler_address: "mine:1", images: {sidecar: mine}}]}`)
	all, _, err := charted("other", values)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][2]string{
		"ScaledJob " + runners + "/a": {"bitbucket-runner-scaler.other.svc.cluster.local:9090", "registry.example.com/scaler:v7"},
		"ScaledJob second/b":          {"mine:1", "mine"},
	} {
		job := as[kedav1alpha1.ScaledJob](t, all, key)
		sidecar := job.Spec.JobTargetRef.Template.Spec.InitContainers[0]
		got := []string{job.Spec.Triggers[0].Metadata["scalerAddress"], sidecar.Env[0].Value, sidecar.Image}
		if !slices.Equal(got, []string{want[0], want[0], want[1]}) {
			t.Errorf("%s: addresses and image are %q, want %q", key, got, want)
		}
	}
}

func TestNamespacesOfGroupsMayExist(t *testing.T) {
	values := with(t, `{groupNamespaces: {create: false}, groups: [{name: a, workspace: acme, labels: [a]}]}`)
	all, _, err := charted(controlPlane, values)
	if err != nil {
		t.Fatal(err)
	}
	if _, created := all["Namespace /"+runners]; created {
		t.Error("the namespace is created all the same")
	}
	as[corev1.ServiceAccount](t, all, "ServiceAccount "+runners+"/"+runners)
}

func TestTheNotesTellOfGroups(t *testing.T) {
	values := with(t, `groups: [{name: a, workspace: acme, labels: [a]}]`)
	_, notes, err := charted(controlPlane, values)
	if err != nil {
		t.Fatal(err)
	}
	_, without, err := charted(controlPlane, with(t, "groups: []"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"kubectl get scaledjobs,jobs -A -l app.kubernetes.io/instance=" + name, "set `groups: []` first", "runnerctl lint values.yaml"} {
		if !strings.Contains(notes, text) || strings.Contains(without, text) {
			t.Errorf("%q is not only in the notes of a release with groups:\n%s\n%s", text, notes, without)
		}
	}
}
