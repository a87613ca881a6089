package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mine is a kustomization of a user.
const mine = `# Everything of our cluster.
kind: Kustomization
resources: # in this order
- ../base
- mine.yaml
patches:
- path: patch.yaml # more memory
`

func TestAKustomizationOfTheUsersGetsTheResources(t *testing.T) {
	for _, name := range []string{"kustomization.yaml", "kustomization.yml", "Kustomization"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(mine), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time nothing changes
			if err := renderInto(dir, runnersConfig); err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(mine, "- mine.yaml\n", "- mine.yaml\n- bitbucket-runner/namespace.yaml\n- bitbucket-runner/scaledjob-runner-group-1.yaml\n- other/namespace.yaml\n- other/scaledjob-b.yaml\n", 1)
			if diff := cmp.Diff(want, readFile(t, path)); diff != "" {
				t.Errorf("%s: want -, got +:\n%s", name, diff)
			}
		}
		found := 0
		for _, other := range kustomizations {
			if _, err := os.Stat(filepath.Join(dir, other)); err == nil {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d kustomizations beside %s, want none", found-1, name)
		}
	}
}

func TestAKustomizationThatCannotBeAddedToIsRefused(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"of which kustomize accepts only one": {"kustomization.yaml": mine, "kustomization.yml": mine},
		"resources: want a list":              {"kustomization.yml": "resources: base\n"},
		"want a mapping":                      {"kustomization.yaml": "- base\n"},
		"did not find":                        {"kustomization.yaml": "resources: [\n"},
	} {
		dir := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, dir)
		if err := renderInto(dir, runnersConfig); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("%s: before -, after +:\n%s", name, diff)
		}
	}
}

func TestManifestsOfRemovedGroupsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := renderInto(dir, runnersConfig); err != nil {
		t.Fatal(err)
	}
	// Files that are not in the kustomization, or not as render writes them, are the user's.
	for name, text := range map[string]string{"other/mine.yaml": "mine", "third/scaledjob-x.yaml": mark} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	only, _, _ := strings.Cut(runnersConfig, "- {name: b")
	got := runs(t, nil, only, "render", "-f", "-", "-o", dir)
	if got.code != 0 || !strings.Contains(got.stderr, "removed "+filepath.Join(dir, "other", "scaledjob-b.yaml")) || !strings.Contains(got.stderr, "kubectl apply does not delete") {
		t.Fatalf("exit code %d, %s", got.code, got.printed())
	}
	left := tree(t, dir)
	for _, gone := range []string{"other/namespace.yaml", "other/scaledjob-b.yaml"} {
		if _, ok := left[gone]; ok || strings.Contains(left["kustomization.yaml"], gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, kept := range []string{"other/mine.yaml", "third/scaledjob-x.yaml", "bitbucket-runner/scaledjob-runner-group-1.yaml"} {
		if _, ok := left[kept]; !ok {
			t.Errorf("%s was removed", kept)
		}
	}
}
