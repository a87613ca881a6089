package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestEveryFaultIsReported(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no command":             {nil, 2, []string{"run, exec, drain, ready, version"}},
		"unknown command":        {[]string{"drive"}, 2, []string{`"drive"`, "run, exec, drain, ready, version"}},
		"run without an address": {[]string{"run"}, 1, []string{`scaler-address: "", want host:port`}},
		"run with every fault": {
			[]string{"run", "--tls", "maybe", "--dir", "here", "--token-file", "", "--log-level", "loud", "extra"},
			1, []string{"scaler-address", `tls: "maybe"`, `dir: "here"`, "token-file", `log-level: "loud"`, `"extra"`},
		},
		"exec with every fault": {
			[]string{"exec", "--stop-grace", "soon", "--connect-timeout", "-1s", "--dir", "here", "--log-level", "loud"},
			1, []string{"command: none given", `stop-grace: "soon", want a duration such as 10s`, "connect-timeout: -1s", `dir: "here"`, `log-level: "loud"`},
		},
		"exec without a command":  {[]string{"exec"}, 1, []string{"command: none given"}},
		"ready without a sidecar": {[]string{"ready", "--dir", "/no/such"}, 1, []string{"connect to the sidecar"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, err := run(t.Context(), tc.args, &bytes.Buffer{})
			if code != tc.code || err == nil {
				t.Fatalf("exit code %d and error %v, want %d and an error", code, err, tc.code)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not contain %s", err, want)
				}
			}
		})
	}
}

func TestFlagsAreReadFromTheEnvironment(t *testing.T) {
	t.Setenv("SIDECAR_DIR", "relative")
	t.Setenv("SIDECAR_SCALER_ADDRESS", "scaler:9090")
	t.Setenv("SIDECAR_TLS", "sometimes")
	_, err := run(t.Context(), []string{"run"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), `dir: "relative"`) || !strings.Contains(err.Error(), `tls: "sometimes"`) {
		t.Errorf("error %v, want errors about the values of the environment", err)
	}
	if err != nil && strings.Contains(err.Error(), "scaler-address") {
		t.Errorf("error %v, want the address of the environment to be accepted", err)
	}
}

func TestVersionIsPrinted(t *testing.T) {
	var out bytes.Buffer
	if code, err := run(t.Context(), []string{"version"}, &out); code != 0 || err != nil || out.String() != version+"\n" {
		t.Errorf("exit code %d, error %v, output %q, want 0 and %q", code, err, out.String(), version)
	}
}

func TestNoKubernetesClientIsLinked(t *testing.T) {
	listed, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := string(listed)
	if !strings.Contains(packages, "google.golang.org/grpc\n") {
		t.Fatalf("grpc is not in the list of packages, so the list must be wrong:\n%s", packages)
	}
	for _, heavy := range []string{"k8s.io/", "github.com/kedacore/", "bitbucket-runner-scaler/externalscaler"} {
		if strings.Contains(packages, heavy) {
			t.Errorf("%s is linked, and makes the binary in each runner pod larger", heavy)
		}
	}
}
