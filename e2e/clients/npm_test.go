package clients

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// TestClientsFromNpm installs the packages as the lock file says, and runs one script per
// package. It needs Node.js and npm.
func TestClientsFromNpm(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("npm")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	for script, change := range map[string]func(want *answers){
		"bitbucket.cjs":  nil,
		"coderabbit.mjs": nil,
		"mcp.mjs": func(want *answers) {
			want.WorkspaceRunners, want.RepositoryRunners = nil, nil
			want.Building = []int{1}
			want.Stopped = ""
		},
	} {
		t.Run(script, func(t *testing.T) {
			s := newStage(t)
			got := node(t, filepath.Join(dir, script), s.url)
			if script == "mcp.mjs" {
				if !strings.Contains(got.Stopped, "404") {
					t.Errorf("stopping at a path that Bitbucket does not have: %q, want 404", got.Stopped)
				}
				got.Stopped = ""
			}
			s.check(t, got, change)
		})
	}
}

// node runs a script and returns what it prints.
func node(t *testing.T, script, base string) answers {
	t.Helper()
	var out, complaint bytes.Buffer
	command := exec.CommandContext(t.Context(), "node", script)
	command.Env = append(os.Environ(), "BASE="+base, "TOKEN="+emulator.AccessToken, "NO_PROXY=127.0.0.1")
	command.Stdout, command.Stderr = &out, &complaint
	if err := command.Run(); err != nil {
		said := complaint.String() // the packages are minified, so that a trace repeats all of one
		t.Fatalf("%s: %v\n%s", script, err, said[max(0, len(said)-3000):])
	}
	var got answers
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%s printed %s: %v", script, &out, err)
	}
	return got
}
