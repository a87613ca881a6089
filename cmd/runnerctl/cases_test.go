package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory"
)

var update = flag.Bool("update", false, "write the golden files of testdata/cases")

// What users bring, each file with what lint and render answer. A golden file shows the
// commands with their exit codes.
func TestWhatUsersBringIsAnsweredAsInTheGoldenFiles(t *testing.T) {
	const cases, plain = "testdata/cases/", "testdata/cases/configurations/default-resources.yaml"
	commands := map[string]func(path string) [][]string{
		"configurations/*.yaml": func(path string) [][]string { return [][]string{{"lint", path}, {"render", "-f", path}} },
		"manifests/*.yaml":      func(path string) [][]string { return [][]string{{"lint", path}} },
		"templates/*.yaml": func(path string) [][]string {
			return [][]string{{"render", "-f", plain, "--job-template", path}}
		},
		"folder": func(path string) [][]string { return [][]string{{"lint", path}} },
	}
	for pattern, lines := range commands {
		paths, err := filepath.Glob(cases + pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: no cases: %v", pattern, err)
		}
		for _, path := range paths {
			t.Run(path, func(t *testing.T) {
				var got strings.Builder
				for _, line := range lines(path) {
					r := runs(t, nil, "", line...)
					fmt.Fprintf(&got, "$ runnerctl %s\n%s%sexit code %d\n", strings.Join(line, " "), r.stdout, r.stderr, r.code)
				}
				// The address is that of the installation.
				text := strings.ReplaceAll(got.String(), jobfactory.DefaultScalerAddress, "SCALER")
				golden := strings.TrimSuffix(path, ".yaml") + ".golden"
				if *update {
					if err := os.WriteFile(golden, []byte(text), 0o644); err != nil { //nolint:gosec // a golden file
						t.Fatal(err)
					}
				}
				if diff := cmp.Diff(readFile(t, golden), text); diff != "" {
					t.Errorf("want -, got + (go test ./cmd/runnerctl -update, if the change is intended):\n%s", diff)
				}
			})
		}
	}
}

// Files that are none of lint's business are passed over in folders.
func TestTheProjectsOwnFoldersAreClean(t *testing.T) {
	for _, folder := range []string{"../../deploy", "../../docs", "../../deploy/chart", "../../deploy/examples"} {
		if got := runs(t, nil, "", "lint", "--fail-on", "warning", folder); got.code != 0 || got.stdout != "" {
			t.Errorf("%s: exit code %d:\n%s", folder, got.code, got.printed())
		}
	}
	if got := runs(t, nil, "", "lint", "../../deploy"); !strings.Contains(got.stderr, "6 groups") {
		t.Errorf("the groups are not judged: %s", got.stderr)
	}
}

func TestLinksInFoldersAreFollowedOnce(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"real/a.yaml": wrong, "real/..2026/hidden.yaml": wrong, "real/.git/b.yaml": wrong} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"folder": "real", "real/again": ".", "links/file.yaml": "../real/a.yaml", "links/b.yaml": "../real/a.yaml", "mounted/groups.yaml": "..data/hidden.yaml", "mounted/..data": "../real/..2026",
	} {
		path := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	for given, want := range map[string]string{"folder": "a.yaml:2: ", "links": "b.yaml:2: ", "links/file.yaml": "file.yaml:2: ", "mounted": "groups.yaml:2: "} {
		if got := runs(t, nil, "", "lint", filepath.Join(dir, given)); strings.Count(got.stdout, "\n") != 1 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: want one finding in %s, got:\n%s", given, want, got.printed())
		}
	}
}
