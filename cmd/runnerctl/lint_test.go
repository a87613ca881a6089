package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/lint"
)

const (
	goodGroup = "groups:\n- {name: a, workspace: acme, labels: [x], namespace: builds, parameters: {min: 1, max: 4}, resources: {limits: {memory: 2Gi}, requests: {memory: 2Gi}}, docker_resources: {limits: {memory: 4Gi}}}\n"
	// A step may take longer than this grace period: a warning.
	warned = "groups:\n- {name: a, workspace: acme, labels: [x], namespace: builds, grace_period: 10m, parameters: {min: 1, max: 4}, resources: {limits: {memory: 2Gi}, requests: {memory: 2Gi}}, docker_resources: {limits: {memory: 4Gi}}}\n"
	wrong  = "groups:\n- {name: a, workspace: acme, labels: [x], parameters: {min: 5, max: 4}}\n"
)

// linted lints and returns what is printed and the exit code.
func linted(t *testing.T, stdin string, args ...string) (stdout string, code int) {
	t.Helper()
	r := runs(t, nil, stdin, append([]string{"lint"}, args...)...)
	return r.stdout, r.code
}

func TestLintsExitCodesAreForCI(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, warns, bad := file("good.yaml", goodGroup), file("warns.yaml", warned), file("bad/below/bad.yml", wrong)
	file("empty/notes.txt", "not a manifest")
	for name, test := range map[string]struct {
		args   []string
		stdin  string
		code   int
		stdout string
	}{
		"nothing found":               {args: []string{good}},
		"an error":                    {args: []string{good, bad}, code: 1, stdout: "(config-invalid)"},
		"a warning passes":            {args: []string{warns}, stdout: "(grace-too-short)"},
		"unless it is to fail":        {args: []string{"--fail-on", "warning", warns}, code: 1, stdout: "(grace-too-short)"},
		"from stdin":                  {args: []string{"-"}, stdin: wrong, code: 1, stdout: "-:2: "},
		"a folder":                    {args: []string{filepath.Join(dir, "bad")}, code: 1, stdout: "bad.yml:2: "},
		"a folder without manifests":  {args: []string{filepath.Join(dir, "empty")}},
		"not there":                   {args: []string{good, filepath.Join(dir, "none.yaml")}, code: 2},
		"not YAML":                    {args: []string{"-"}, stdin: "a: [", code: 1, stdout: "(manifest-invalid)"},
		"no file at all":              {code: 2},
		"an output that there is not": {args: []string{"-o", "xml", good}, code: 2},
		"by flags":                    {args: []string{"-f", good, "--filename", bad}, code: 1, stdout: "(config-invalid)"},
		"by a flag and as argument":   {args: []string{"-f", bad, good}, code: 1, stdout: "(config-invalid)"},
		"stdin by a flag":             {args: []string{"-f", "-"}, stdin: wrong, code: 1, stdout: "-:2: "},
		"flags after files":           {args: []string{warns, "--fail-on", "warning"}, code: 1, stdout: "(grace-too-short)"},
		"all without a cluster":       {args: []string{"--all-namespaces", good}, code: 2},
		"a cluster out of reach":      {args: []string{"--kubeconfig", filepath.Join(dir, "none")}, code: 2},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, code := linted(t, test.stdin, test.args...)
			if code != test.code || !strings.Contains(stdout, test.stdout) || test.stdout == "" && stdout != "" {
				t.Errorf("exit code %d, want %d; printed %q, want %q", code, test.code, stdout, test.stdout)
			}
		})
	}
}

func TestLintsOutputIsForMachines(t *testing.T) {
	var ids []string
	for _, rule := range lint.Rules() {
		ids = append(ids, rule.ID)
	}
	text, code := linted(t, wrong, "-o", "json", "-")
	var findings []lint.Finding
	if err := json.Unmarshal([]byte(text), &findings); err != nil || code != 1 || len(findings) != 1 {
		t.Fatalf("exit code %d, %v: %s", code, err, text)
	}
	if f := findings[0]; f.File != "-" || f.Line != 2 || f.Rule != "config-invalid" || !slices.Contains(ids, f.Rule) || f.Path != "groups[0].parameters.max" && f.Path != "groups[0].parameters.min" {
		t.Errorf("got %+v", f)
	}
	if text, code := linted(t, goodGroup, "-o", "json", "-"); code != 0 || text != "[]\n" {
		t.Errorf("exit code %d and %q for nothing found", code, text)
	}

	text, code = linted(t, wrong, "-o", "sarif", "-")
	var log struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID, Level string
				Message       struct{ Text string }
				Locations     []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &log); err != nil || code != 1 || log.Version != "2.1.0" || len(log.Runs) != 1 || len(log.Runs[0].Results) != 1 {
		t.Fatalf("exit code %d, %v: %s", code, err, text)
	}
	result := log.Runs[0].Results[0]
	if result.RuleID != "config-invalid" || result.Level != "error" || result.Message.Text == "" || len(result.Locations) != 1 || result.Locations[0].PhysicalLocation.Region.StartLine != 2 {
		t.Errorf("got %+v", result)
	}
	if got := len(log.Runs[0].Tool.Driver.Rules); got != len(ids) {
		t.Errorf("%d rules, want %d", got, len(ids))
	}

	var rules []lint.Rule
	text, _ = linted(t, "", "--rules", "-o", "json")
	if err := json.Unmarshal([]byte(text), &rules); err != nil || !slices.EqualFunc(rules, ids, func(r lint.Rule, id string) bool { return r.ID == id && r.Finds != "" && r.Remedy != "" }) {
		t.Errorf("%v: %s", err, text)
	}
	text, code = linted(t, "", "--rules")
	for _, id := range ids {
		if !strings.Contains(text, id) || code != 0 {
			t.Errorf("exit code %d; --rules does not print %s", code, id)
		}
	}
}

func TestLintSumsUp(t *testing.T) {
	for name, c := range map[string]struct{ stdin, want string }{
		"nothing found": {goodGroup, "1 file, 1 group: no findings\n"},
		"a warning":     {warned, "1 file, 1 group: 0 errors, 1 warning\n"},
		"an error":      {wrong, "runnerctl: lint: 1 error, 0 warnings in 1 file\n"},
	} {
		if got := runs(t, nil, c.stdin, "lint", "-"); got.stderr != c.want {
			t.Errorf("%s: %q, want %q", name, got.stderr, c.want)
		}
	}
}
