package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestFaultsAreReported(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no command":             {nil, 2, []string{"run, exec, drain, ready, version"}},
		"unknown command":        {[]string{"drive"}, 2, []string{`"drive"`, "run, exec, drain, ready, version"}},
		"misspelt command":       {[]string{"drian"}, 2, []string{`"drian", did you mean drain?`}},
		"misspelt short command": {[]string{"rnu"}, 2, []string{`"rnu", did you mean run?`}},
		"misspelt flag":          {[]string{"run", "--scaler-addresss", "x:1"}, 2, []string{"unknown flag --scaler-addresss, did you mean --scaler-address?", `See "sidecar run --help"`}},
		"flag with one dash":     {[]string{"run", "-dir", "/x"}, 2, []string{"unknown flag -dir, did you mean --dir?"}},
		"flag of another":        {[]string{"ready", "--timeout", "1s"}, 2, []string{"unknown flag --timeout"}},
		"run without an address": {[]string{"run"}, 2, []string{`--scaler-address: "", want host:port`}},
		"run with every fault": {
			[]string{"run", "--tls", "maybe", "--dir", "here", "--token-file", "", "--log-level", "loud", "extra"},
			2, []string{"--scaler-address", `--tls: "maybe"`, `dir: "here"`, "token-file", `log-level: "loud"`, `"extra"`},
		},
		"exec with every fault": {
			[]string{"exec", "--stop-grace", "soon", "--connect-timeout", "-1s", "--dir", "here", "--log-level", "loud"},
			2, []string{"command: none given", `stop-grace: "soon", want a duration such as 10s`, "connect-timeout: -1s", `dir: "here"`, `log-level: "loud"`},
		},
		"exec without a command":  {[]string{"exec"}, 2, []string{"command: none given"}},
		"ready without a sidecar": {[]string{"ready", "--dir", "/no/such"}, 1, []string{"connect to the sidecar"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), tc.args, os.LookupEnv, &stdout, &stderr); code != tc.code || stdout.Len() > 0 {
				t.Errorf("exit code %d and output %q, want %d and none", code, &stdout, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("error %q does not name %s", &stderr, want)
				}
			}
		})
	}
}

func TestFlagsAreReadFromTheEnvironment(t *testing.T) {
	t.Setenv("SIDECAR_DIR", "relative")
	t.Setenv("SIDECAR_SCALER_ADDRESS", "scaler:9090")
	t.Setenv("SIDECAR_TLS", "sometimes")
	var stderr bytes.Buffer
	if code := run(t.Context(), []string{"run"}, os.LookupEnv, &bytes.Buffer{}, &stderr); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	if got := stderr.String(); !strings.Contains(got, `dir: "relative"`) || !strings.Contains(got, `tls: "sometimes"`) || strings.Contains(got, "scaler-address") {
		t.Errorf("got %s, want dir and tls of the environment to be refused, and the address to be accepted", got)
	}
}

func TestVersionAndHelpArePrinted(t *testing.T) {
	for args, want := range map[string]string{
		"version": version + "\n", "--version": version + "\n",
		"help": "sidecar exec -- ", "--help": "Usage: sidecar COMMAND", "-h": "SIDECAR_DIR for --dir",
		"run --help": "--scaler-address host:port", "exec -h": "Usage: sidecar exec [flags] -- COMMAND [ARGUMENTS]", "drain --help": "--timeout duration",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), os.LookupEnv, &stdout, &stderr)
		if code != 0 || stderr.Len() > 0 || !strings.Contains(stdout.String(), want) {
			t.Errorf("%s: exit code %d, error %q, output %q, want 0 and %q", args, code, &stderr, &stdout, want)
		}
	}
}

func TestFlagsAfterTheCommandBelongToTheCommand(t *testing.T) {
	var stderr bytes.Buffer
	// Without a sidecar, exec does not start the command.
	code := run(t.Context(), []string{"exec", "--dir", t.TempDir(), "--connect-timeout", "1ms", "runner", "--dir", "-x"}, os.LookupEnv, &bytes.Buffer{}, &stderr)
	if code != 1 || strings.Contains(stderr.String(), "unknown flag") {
		t.Errorf("exit code %d, %s, want 1 because there is no sidecar", code, &stderr)
	}
}

func TestNoKubernetesClientIsLinked(t *testing.T) {
	listed, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Suggestions for misspelt names, which are small.
	packages := strings.ReplaceAll(string(listed), "bitbucket-runner-scaler/externalscaler/runnergroup/spelling\n", "")
	if !strings.Contains(packages, "google.golang.org/grpc\n") {
		t.Fatalf("grpc is not among the packages, is this the list of them?\n%s", packages)
	}
	for _, heavy := range []string{"k8s.io/", "github.com/kedacore/", "github.com/spf13/cobra", "bitbucket-runner-scaler/externalscaler"} {
		if strings.Contains(packages, heavy) {
			t.Errorf("%s is linked, which makes every runner pod larger", heavy)
		}
	}
}
