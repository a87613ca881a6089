package wrapper

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
)

// probeRun is how long a probe runs that ends by time. A shell starts within it.
const probeRun = 2 * time.Second

// probeScript probes a shell script as the runner, in another process, because a probe
// reaps every child of its process. The process is interrupted when interrupt appears
// in the output.
func probeScript(t *testing.T, script, interrupt string, run, grace time.Duration) (ProbeResult, string) {
	t.Helper()
	command := exec.Command(os.Args[0], run.String(), grace.String(), "sh", "-c", script)
	command.Env = append(os.Environ(), sidecartest.Role+"=probe")
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
	var result ProbeResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		t.Fatalf("%v: %s", err, &stdout)
	}
	return result, output.String()
}

func TestAProbeShowsWhatTheRunnerDoes(t *testing.T) {
	const forever = "while :; do sleep 0.05; done"
	for name, c := range map[string]struct {
		script string
		// interrupt is the output at which the probe is interrupted. Without it the probe
		// ends after run, or when the runner does.
		interrupt string
		// run and grace are longer than any runner here needs, unless set.
		run, grace time.Duration
		announced  []string
		want       ProbeResult // without durations
	}{
		"idle":                          {script: sidecartest.Online + "exec sleep 60", run: probeRun, announced: []string{"online"}, want: ProbeResult{ExitCode: 143}},
		"a step in between":             {script: sidecartest.Online + sidecartest.Step + "sleep 0.1; " + sidecartest.Completed + "exec sleep 60", interrupt: "Completing", announced: []string{"online", "step", "completed"}, want: ProbeResult{ExitCode: 143}},
		"a busy runner":                 {script: sidecartest.Step + "sleep 3; " + sidecartest.Completed + "exec sleep 60", run: probeRun, announced: []string{"step", "completed"}, want: ProbeResult{ExitCode: 143}},
		"an interrupted busy runner":    {script: sidecartest.Step + "exec sleep 60", interrupt: "Getting", announced: []string{"step"}, want: ProbeResult{Busy: true, ExitCode: 143}},
		"it ends by itself":             {script: sidecartest.Online + "exit 3", announced: []string{"online"}, want: ProbeResult{EndedByItself: true, ExitCode: 3}},
		"a runner that handles SIGTERM": {script: "trap 'echo bye; exit 7' TERM; " + sidecartest.Online + forever, interrupt: "ONLINE", announced: []string{"online"}, want: ProbeResult{ExitCode: 7}},
		"a runner that ignores SIGTERM": {script: "trap '' TERM; " + sidecartest.Online + forever, interrupt: "ONLINE", grace: stopGrace, announced: []string{"online"}, want: ProbeResult{Killed: true, ExitCode: 137}},
		"an end without a beginning":    {script: sidecartest.Completed + "exec sleep 60", interrupt: "Completing", announced: []string{"completed"}, want: ProbeResult{Unrecognized: true, ExitCode: 143}},
		"no known line":                 {script: "echo hello; exec sleep 60", interrupt: "hello", want: ProbeResult{ExitCode: 143}},
		"a line at the end":             {script: `trap 'echo "Updating runner status to \"ONLINE\""; exit 0' TERM; echo ready; ` + forever, interrupt: "ready", announced: []string{"online"}, want: ProbeResult{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range []*time.Duration{&c.run, &c.grace} {
				if *d == 0 {
					*d = sidecartest.Patience
				}
			}
			result, output := probeScript(t, c.script, c.interrupt, c.run, c.grace)
			var announced []string
			for _, line := range result.Lines {
				announced = append(announced, line.Announces)
				if (line.Step != "") != (line.Announces == "step") || line.After <= 0 {
					t.Errorf("line %+v", line)
				}
			}
			if diff := cmp.Diff(c.announced, announced); diff != "" {
				t.Errorf("lines want -, got +:\n%s", diff)
			}
			if !strings.HasSuffix(result.Path, "/sh") || result.Ran <= 0 || result.Ran > sidecartest.Patience {
				t.Errorf("path %q, ran %v", result.Path, result.Ran)
			}
			result.Path, result.Lines, result.Ran, result.Stopping = "", nil, 0, 0
			if diff := cmp.Diff(c.want, result); diff != "" {
				t.Errorf("want -, got +:\n%s\n%s", diff, output)
			}
		})
	}
}

func TestAProbeReportsEveryFaultAtOnce(t *testing.T) {
	_, err := ProbeImage(t.Context(), ProbeConfig{Run: -1, StopGrace: -1})
	for _, want := range []string{"command: none", "run: -1ns", "stop grace: -1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := ProbeImage(t.Context(), ProbeConfig{Command: []string{"/not/there"}}); err == nil || !strings.Contains(err.Error(), "find the runner's command") {
		t.Errorf("got %v", err)
	}
}
