package kube

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/scope"
)

func TestScopesAreReadAsStored(t *testing.T) {
	c, client := watch(t, nil)
	kept := c.ScopesIn("system", "bitbucket-runner-scaler")
	if got, err := kept.LoadScopes(t.Context()); err != nil || got != nil {
		t.Errorf("before the first: got %v, %v", got, err)
	}
	for _, want := range [][]scope.RegisteredScope{
		{{Namespace: "team", Credentials: "default", Workspace: "{w}", Repository: "{r}"}, {Namespace: "other", Credentials: "b", Workspace: "{w}"}},
		{{Namespace: "team", Credentials: "default", Workspace: "{w}"}},
	} {
		if err := kept.SaveScopes(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		got, err := kept.LoadScopes(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("got %v, want -, got +:\n%s", err, diff)
		}
	}
	broken, err := client.CoreV1().ConfigMaps("system").Get(t.Context(), kept.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	broken.Data[scopesKey] = "not JSON"
	if _, err := client.CoreV1().ConfigMaps("system").Update(t.Context(), broken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.LoadScopes(t.Context()); err == nil || !strings.Contains(err.Error(), "system/"+kept.name) {
		t.Errorf("not JSON: got %v", err)
	}
}

// storeAsBefore stores a scope in the ConfigMap of the version before.
func storeAsBefore(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	old := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "bitbucket-runner-scaler-places"},
		Data:       map[string]string{"places.json": `[{"namespace":"team","credentials":"default","workspace":"{w}"}]`},
	}
	if _, err := client.CoreV1().ConfigMaps("system").Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestScopesOfAnOlderVersionAreReadUntilTheNewNameExists(t *testing.T) {
	c, client := watch(t, nil)
	storeAsBefore(t, client)
	store := c.ScopesIn("system", "bitbucket-runner-scaler")
	if err := store.SaveUsage(t.Context(), map[string]bitbucket.Usage{"default": {{1, 2}}}); err != nil { // makes the new one
		t.Fatal(err)
	}
	before := []scope.RegisteredScope{{Namespace: "team", Credentials: "default", Workspace: "{w}"}}
	if got, err := store.LoadScopes(t.Context()); err != nil || !slices.Equal(got, before) {
		t.Errorf("got %v, %v, want %v", got, err, before)
	}
	after := []scope.RegisteredScope{{Namespace: "team", Credentials: "default", Workspace: "{x}"}}
	if err := store.SaveScopes(t.Context(), after); err != nil {
		t.Fatal(err)
	}
	if got, err := store.LoadScopes(t.Context()); err != nil || !slices.Equal(got, after) {
		t.Errorf("got %v, %v, want %v", got, err, after)
	}
}

func TestUsageIsKeptBesideTheScopes(t *testing.T) {
	c, client := watch(t, nil)
	kept := c.ScopesIn("system", "bitbucket-runner-scaler")
	if got, err := kept.LoadUsage(t.Context()); err != nil || got != nil {
		t.Errorf("before the first: got %v, %v", got, err)
	}
	scopes := []scope.RegisteredScope{{Namespace: "team", Credentials: "default", Workspace: "{w}"}}
	usage := map[string]bitbucket.Usage{"default": {{29_000_000, 1, 2, 3, 4, 5}}, "other": {}}
	if err := kept.SaveUsage(t.Context(), usage); err != nil {
		t.Fatal(err)
	}
	if err := kept.SaveScopes(t.Context(), scopes); err != nil {
		t.Fatal(err)
	}
	gotUsage, err := kept.LoadUsage(t.Context())
	if diff := cmp.Diff(usage, gotUsage); diff != "" || err != nil {
		t.Errorf("got %v, want -, got +:\n%s", err, diff)
	}
	if got, err := kept.LoadScopes(t.Context()); err != nil || !slices.Equal(got, scopes) {
		t.Errorf("got %v, %v, want %v", got, err, scopes)
	}
	other, err := client.CoreV1().ConfigMaps("system").Get(t.Context(), kept.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other.Data[usageKey] = "of another version"
	if _, err := client.CoreV1().ConfigMaps("system").Update(t.Context(), other, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := kept.LoadUsage(t.Context()); err != nil || got != nil {
		t.Errorf("of another version: got %v, %v", got, err)
	}
}

func TestEachPartKeepsItsOwnKeyInTheStoredScopes(t *testing.T) {
	c, client := watch(t, nil)
	storeAsBefore(t, client)
	store := c.ScopesIn("system", "bitbucket-runner-scaler")
	if got, err := store.LoadPodless(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("before the first: got %v, %v", got, err)
	}
	podless := map[string]time.Time{"{a}": time.Unix(1000, 0).UTC()}
	if err := store.SavePodless(t.Context(), podless); err != nil {
		t.Fatal(err)
	}
	scopes := []scope.RegisteredScope{{Namespace: "team", Credentials: "default", Workspace: "{w}"}}
	for _, when := range []string{"under the old name", "under the new name"} {
		if got, err := store.LoadScopes(t.Context()); err != nil || !slices.Equal(got, scopes) {
			t.Errorf("%s: got %v, %v, want %v", when, got, err, scopes)
		}
		if got, err := store.LoadPodless(t.Context()); err != nil || !maps.Equal(got, podless) {
			t.Errorf("%s: got %v, %v, want %v", when, got, err, podless)
		}
		if err := store.SaveScopes(t.Context(), scopes); err != nil {
			t.Fatal(err)
		}
	}
}
