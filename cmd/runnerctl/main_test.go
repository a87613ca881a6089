package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const runnersConfig = `groups:
- {name: Runner group 1, workspace: acme, labels: [x]}
- {name: b, workspace: acme, labels: [y], namespace: other}
`

func TestRenderToStdoutIsTheDirectorysContent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	streamed := runs(t, nil, runnersConfig, "render", "-f", "-")
	if streamed.code != 0 || streamed.stderr != "2 groups in 2 namespaces\n" {
		t.Fatalf("exit code %d, %q", streamed.code, streamed.stderr)
	}
	if got := runs(t, nil, runnersConfig, "render", "--filename", "-", "--output", dir); got.code != 0 || got.printed() != "wrote 5 files to "+dir+"\n" {
		t.Fatalf("exit code %d, %q", got.code, got.printed())
	}
	files := []string{
		"bitbucket-runner/namespace.yaml", "bitbucket-runner/scaledjob-runner-group-1.yaml",
		"other/namespace.yaml", "other/scaledjob-b.yaml",
	}
	texts := make([]string, len(files))
	for i, file := range files {
		texts[i] = readFile(t, filepath.Join(dir, file))
	}
	if diff := cmp.Diff(strings.Join(texts, "---\n"), streamed.stdout); diff != "" {
		t.Errorf("directory -, stdout +:\n%s", diff)
	}
	want := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- " + strings.Join(files, "\n- ") + "\n"
	if diff := cmp.Diff(want, readFile(t, filepath.Join(dir, "kustomization.yaml"))); diff != "" {
		t.Errorf("kustomization: want -, got +:\n%s", diff)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestNothingIsWrittenForABadFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	got := runs(t, nil, runnersConfig+"- {name: c}\n", "render", "-f", "-", "-o", dir)
	if got.code != 1 || !strings.Contains(got.stderr, "line 4: groups[2].workspace: missing") {
		t.Errorf("exit code %d, %s, want 1 and the fault with its line", got.code, got.stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) || got.stdout != "" {
		t.Errorf("something was written: %v, %q", err, got.stdout)
	}
}
