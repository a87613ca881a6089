package main

import (
	"bytes"
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
	var stdout, stderr bytes.Buffer
	if err := run([]string{"render", "-f", "-"}, strings.NewReader(runnersConfig), &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"render", "-f", "-", "-o", dir}, strings.NewReader(runnersConfig), &stderr, &stderr); err != nil {
		t.Fatal(err)
	}
	if stderr.Len() > 0 {
		t.Errorf("unexpected output: %s", &stderr)
	}
	files := []string{
		"bitbucket-runner/namespace.yaml", "bitbucket-runner/scaledjob-runner-group-1.yaml",
		"other/namespace.yaml", "other/scaledjob-b.yaml",
	}
	texts := make([]string, len(files))
	for i, file := range files {
		texts[i] = readFile(t, filepath.Join(dir, file))
	}
	if diff := cmp.Diff(strings.Join(texts, "---\n"), stdout.String()); diff != "" {
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
	var out bytes.Buffer
	err := run([]string{"render", "-f", "-", "-o", dir}, strings.NewReader(runnersConfig+"- {name: c}\n"), &out, &out)
	if err == nil || !strings.Contains(err.Error(), "line 4: groups[2].workspace: missing") {
		t.Errorf("got %v, want the fault with its line", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) || out.Len() > 0 {
		t.Errorf("something was written: %v, %q", err, &out)
	}
}

func TestCommandLine(t *testing.T) {
	for name, test := range map[string]struct {
		args           []string
		stdout, failed string
	}{
		"help":            {args: []string{"help"}, stdout: "Usage: runnerctl COMMAND"},
		"version":         {args: []string{"version"}, stdout: "dev\n"},
		"schema":          {args: []string{"schema"}, stdout: "{\n  \"$defs\""},
		"schema of what":  {args: []string{"schema", "x"}, failed: "want no arguments"},
		"none":            {failed: "no command"},
		"unknown":         {args: []string{"rendre"}, failed: `command "rendre": want render, lint, check, schema, version or help`},
		"without a file":  {args: []string{"render"}, failed: "want -f FILE"},
		"further words":   {args: []string{"render", "-f", "-", "x"}, failed: "no further arguments"},
		"file not there":  {args: []string{"render", "-f", "/not/there"}, failed: "/not/there"},
		"unknown flag":    {args: []string{"render", "-x"}, failed: "-x"},
		"help of render":  {args: []string{"render", "-h"}},
		"directory given": {args: []string{"render", "-f", "."}, failed: "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := run(test.args, strings.NewReader(""), &stdout, &stderr)
			if (err != nil) != (test.failed != "") || err != nil && !strings.Contains(err.Error(), test.failed) {
				t.Errorf("got error %v, want %q", err, test.failed)
			}
			if !strings.HasPrefix(stdout.String(), test.stdout) {
				t.Errorf("got stdout %q, want %q", &stdout, test.stdout)
			}
		})
	}
}
