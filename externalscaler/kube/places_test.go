package kube

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

func TestPlacesAreReadAsTheyWereKept(t *testing.T) {
	c, client := watch(t, nil)
	kept := c.PlacesIn("system")
	if got, err := kept.LoadPlaces(t.Context()); err != nil || got != nil {
		t.Errorf("before the first: got %v, %v", got, err)
	}
	for _, want := range [][]fleet.KeptPlace{
		{{Namespace: "team", Credentials: "default", Workspace: "{w}", Repository: "{r}"}, {Namespace: "other", Credentials: "b", Workspace: "{w}"}},
		{{Namespace: "team", Credentials: "default", Workspace: "{w}"}},
	} {
		if err := kept.SavePlaces(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		got, err := kept.LoadPlaces(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("got %v, want -, got +:\n%s", err, diff)
		}
	}
	broken, err := client.CoreV1().ConfigMaps("system").Get(t.Context(), placesName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken.Data[placesKey] = "not ours"
	if _, err := client.CoreV1().ConfigMaps("system").Update(t.Context(), broken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.LoadPlaces(t.Context()); err == nil || !strings.Contains(err.Error(), "system/"+placesName) {
		t.Errorf("not understood: got %v", err)
	}
}
