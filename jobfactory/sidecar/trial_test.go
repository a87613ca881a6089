package sidecar

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// try runs a shell's script as a runner, in a process of its own: a trial reaps every
// child of its process. interrupt is a text of its output at which it is interrupted.
func try(t *testing.T, script, interrupt string) (Trial, string) {
	t.Helper()
	command := exec.Command(os.Args[0], "sh", "-c", script)
	command.Env = append(os.Environ(), role+"=try")
	var stdout bytes.Buffer
	command.Stdout = &stdout
	pipe, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	buffer := make([]byte, 4096)
	for sent := interrupt == ""; ; {
		n, err := pipe.Read(buffer)
		output.Write(buffer[:n])
		if !sent && strings.Contains(output.String(), interrupt) {
			sent = true
			if err := command.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			break
		}
	}
	if err := command.Wait(); err != nil {
		t.Fatalf("%v: %s", err, output.String())
	}
	var trial Trial
	if err := json.Unmarshal(stdout.Bytes(), &trial); err != nil {
		t.Fatalf("%v: %s", err, &stdout)
	}
	return trial, output.String()
}

const (
	sayOnline    = `echo 'Updating runner status to "ONLINE" and checking for new steps'; `
	sayStep      = `echo 'Getting step StepId{stepUuid={11111111-0000-4000-8000-000000000001}}.'; `
	sayCompleted = `echo 'Completing step with result Result{status=PASSED, error=None}.'; `
)

func TestATrialTellsWhatARunnerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		script, interrupt string
		tells             []string
		want              Trial // but for its times
	}{
		"idle":                              {script: sayOnline + "exec sleep 60", tells: []string{"online"}, want: Trial{ExitCode: 143}},
		"a step in between":                 {script: sayOnline + sayStep + "sleep 0.1; " + sayCompleted + "exec sleep 60", tells: []string{"online", "step", "completed"}, want: Trial{ExitCode: 143}},
		"a step is waited for":              {script: sayStep + "sleep 1; " + sayCompleted + "exec sleep 60", tells: []string{"step", "completed"}, want: Trial{ExitCode: 143}},
		"an interrupt does not wait":        {script: sayStep + "echo now; exec sleep 60", interrupt: "now", tells: []string{"step"}, want: Trial{Busy: true, ExitCode: 143}},
		"it ends by itself":                 {script: sayOnline + "exit 3", tells: []string{"online"}, want: Trial{Itself: true, ExitCode: 3}},
		"it ends at SIGTERM in its own way": {script: "trap 'echo bye; exit 7' TERM; " + sayOnline + "while :; do sleep 0.05; done", tells: []string{"online"}, want: Trial{ExitCode: 7}},
		"SIGTERM does not end it":           {script: "trap '' TERM; " + sayOnline + "while :; do sleep 0.05; done", tells: []string{"online"}, want: Trial{Killed: true, ExitCode: 137}},
		"an end without its beginning":      {script: sayCompleted + "exec sleep 60", tells: []string{"completed"}, want: Trial{Unrecognized: true, ExitCode: 143}},
		"no known line":                     {script: "echo hello; exec sleep 60", want: Trial{ExitCode: 143}},
		"last words":                        {script: `trap 'echo "Updating runner status to \"ONLINE\""; exit 0' TERM; while :; do sleep 0.05; done`, tells: []string{"online"}, want: Trial{}},
	} {
		t.Run(name, func(t *testing.T) {
			trial, output := try(t, c.script, c.interrupt)
			var tells []string
			for _, line := range trial.Lines {
				tells = append(tells, line.Tells)
				if (line.Step != "") != (line.Tells == "step") || line.After <= 0 {
					t.Errorf("line %+v", line)
				}
			}
			if diff := cmp.Diff(c.tells, tells); diff != "" {
				t.Errorf("lines want -, got +:\n%s", diff)
			}
			if !strings.HasSuffix(trial.Path, "/sh") || trial.Ran <= 0 || trial.Ran > 30*time.Second {
				t.Errorf("path %q, ran %v", trial.Path, trial.Ran)
			}
			trial.Path, trial.Lines, trial.Ran, trial.Stopping = "", nil, 0, 0
			if diff := cmp.Diff(c.want, trial); diff != "" {
				t.Errorf("want -, got +:\n%s\n%s", diff, output)
			}
		})
	}
}

func TestATrialsFaultsComeAtOnce(t *testing.T) {
	_, err := Try(t.Context(), TrialConfig{Run: -1, StopGrace: -1})
	for _, want := range []string{"command: none", "run: -1ns", "stop grace: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Try(t.Context(), TrialConfig{Command: []string{"/not/there"}}); err == nil || !strings.Contains(err.Error(), "find the runner's command") {
		t.Errorf("got %v", err)
	}
}

func TestAnEntrypointIsLookedAtInsideTheImage(t *testing.T) {
	elfHead := func(machine byte) string {
		return "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + string([]byte{machine, 0}) + strings.Repeat("\x00", 64)
	}
	root := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"usr/bin/sh":       {elfHead(0x3e), 0o755},
		"arm/sh":           {elfHead(0xb7), 0o755},
		"opt/exec.sh":      {"#!/bin/sh -e\nA=b exec java -jar x\n", 0o755},
		"opt/plain.sh":     {"#!/bin/sh\nexec >log 2>&1\njava -jar x\n", 0o755},
		"opt/off.sh":       {"#!/bin/sh\n", 0o644},
		"opt/no-interp.sh": {"#!/bin/bash\n", 0o755},
		"opt/text":         {"hello\n", 0o755},
		"opt/empty.sh":     {"#!\n", 0o755},
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"bin": "/usr/bin", "opt/out": "../../../../../etc/passwd", "opt/round": "round"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		path  string
		want  Entrypoint
		fault string
	}{
		"a script that hands over":     {path: "/opt/exec.sh", want: Entrypoint{Interpreter: "/bin/sh -e", Execs: true, Architecture: "amd64"}},
		"one that does not":            {path: "/opt/plain.sh", want: Entrypoint{Interpreter: "/bin/sh", Architecture: "amd64"}},
		"a program":                    {path: "/arm/sh", want: Entrypoint{Architecture: "arm64"}},
		"not there":                    {path: "/opt/entrypoint.sh", fault: "/opt/entrypoint.sh: is not in the image"},
		"not executable":               {path: "/opt/off.sh", want: Entrypoint{Interpreter: "/bin/sh", Architecture: "amd64"}, fault: "/opt/off.sh: is not executable (-rw-r--r--)"},
		"its interpreter is not there": {path: "/opt/no-interp.sh", want: Entrypoint{Interpreter: "/bin/bash"}, fault: "/bin/bash: is not in the image"},
		"no interpreter":               {path: "/opt/empty.sh", fault: "names no interpreter"},
		"neither":                      {path: "/opt/text", fault: "neither a script"},
		"a folder":                     {path: "/opt", fault: "/opt: is no file"},
		"a relative path":              {path: "opt/exec.sh", fault: "want an absolute path"},
		"a link that leads out of it":  {path: "/opt/out", fault: "/opt/out: is not in the image"},
		"a path that leads out of it":  {path: "/../../../../etc/passwd", fault: "is not in the image"},
		"a link that leads to itself":  {path: "/opt/round", fault: "/opt/round: "},
		"a link to an absolute path":   {path: "/bin/sh", want: Entrypoint{Architecture: "amd64"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := InspectEntrypoint(root, c.path)
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got.Faults, "\n"); !strings.Contains(text, c.fault) || c.fault == "" && text != "" {
				t.Errorf("faults %q, want %q", text, c.fault)
			}
			c.want.Path, got.Faults = c.path, nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if _, err := InspectEntrypoint(filepath.Join(root, "no"), "/x"); err == nil {
		t.Error("a root that is not there was accepted")
	}
}
