package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func empty(string) (string, bool) { return "", false }

// parse returns the configuration that is served, or an error with the output. The exit
// code of a wrong command line is 2.
func parse(args []string, lookup func(string) (string, bool)) (config, error) {
	var served config
	var stderr bytes.Buffer
	code := run(context.Background(), args, lookup, func(_ context.Context, c config) error { served = c; return nil }, io.Discard, &stderr)
	switch {
	case code == 0:
		return served, nil
	case code != 2:
		return served, fmt.Errorf("exit code %d, want 2", code)
	}
	return served, errors.New(stderr.String())
}

func TestEveryBadValueIsReportedAtOnce(t *testing.T) {
	_, err := parse([]string{
		"--grpc-listen", "nowhere", "--http-listen", "9", "--bitbucket-url", "ftp://x", "--bitbucket-oauth-url", "::",
		"--cluster", "Not_A_Label", "--poll-interval", "1s", "--max-staleness", "soon", "--write-settle", "-1s", "--orphan-grace", "0",
		"--hourly-budget", "many", "--tls", "perhaps", "--kubernetes", "on", "--log-level", "loud", "--log-format", "xml",
		"--dry-run=perhaps", "--leader-elect=never", "--unsafe-scale-down=2", "--credentials-dir", "/nonexistent/a", "--ca-bundle", "/nonexistent/b", "surplus",
	}, empty)
	if err == nil {
		t.Fatal("got nil")
	}
	for _, want := range []string{
		`--grpc-listen: "nowhere"`, `--http-listen: "9"`, `--bitbucket-url: "ftp://x"`, `--bitbucket-oauth-url: "::"`, `--cluster: "Not_A_Label"`,
		"--poll-interval: 1s", `--max-staleness: "soon"`, `--write-settle: "-1s"`, `--orphan-grace: "0"`, `--hourly-budget: "many"`, `--tls: "perhaps"`,
		`--kubernetes: "on"`, `--log-level: "loud"`, `--log-format: "xml"`, `--dry-run: "perhaps"`, `--leader-elect: "never"`, `--unsafe-scale-down: "2"`,
		"--credentials-dir: ", "--ca-bundle: ", `arguments: ["surplus"]`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not contain %s:\n%v", want, err)
		}
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	t.Setenv("SCALER_POLL_INTERVAL", "90s")
	t.Setenv("SCALER_CLUSTER", "env")
	t.Setenv("SCALER_DRY_RUN", "true")
	t.Setenv("SCALER_HOURLY_BUDGET", "77")
	c, err := parse([]string{"--tls", "off", "--kubernetes", "off", "--cluster", "flag", "--unsafe-scale-down"}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if c.pollInterval != 90*time.Second || c.cluster != "flag" || !c.dryRun || !c.unsafeScaleDown || c.hourlyBudget != 77 {
		t.Errorf("got %v, %q, %v, %v, %d", c.pollInterval, c.cluster, c.dryRun, c.unsafeScaleDown, c.hourlyBudget)
	}
}

func TestNamespaceAndNameComeFromThePod(t *testing.T) {
	if _, err := parse([]string{"--tls", "off"}, empty); err == nil || !strings.Contains(err.Error(), "--namespace") || !strings.Contains(err.Error(), "--pod-name") {
		t.Errorf("without them: got %v", err)
	}
	pod := map[string]string{"POD_NAMESPACE": "pods-own", "POD_NAME": "scaler-1"}
	c, err := parse([]string{"--tls", "off"}, func(name string) (string, bool) { value, ok := pod[name]; return value, ok })
	if err != nil || c.namespace != "pods-own" || c.podName != "scaler-1" || !c.elects() {
		t.Errorf("got %q, %q, elects %v, %v", c.namespace, c.podName, c.elects(), err)
	}
}

func TestSingleReplicaNeedsNoPodName(t *testing.T) {
	for name, args := range map[string][]string{
		"turned off":         {"--tls", "off", "--namespace", "ours", "--leader-elect=false"},
		"without Kubernetes": {"--tls", "off", "--kubernetes", "off"},
	} {
		if c, err := parse(args, empty); err != nil || c.elects() {
			t.Errorf("%s: elects %v, %v", name, c.elects(), err)
		}
	}
}

func TestTLSIsOnUnlessItIsTurnedOff(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string // part of the error; empty for none
	}{
		"by default":              {nil, ""},
		"turned off":              {[]string{"--tls", "off"}, ""},
		"files":                   {[]string{"--tls", file + "," + file}, ""},
		"files and authorities":   {[]string{"--tls", file + "," + file + "," + file}, ""},
		"a missing file":          {[]string{"--tls", file + ",/nonexistent/key"}, "--tls: stat /nonexistent/key"},
		"no key":                  {[]string{"--tls", file + ","}, "want CERT,KEY"},
		"a word":                  {[]string{"--tls", "on"}, "want auto, off or CERT,KEY[,CA]"},
		"auto without Kubernetes": {[]string{"--kubernetes", "off"}, "with --kubernetes off want off or CERT,KEY"},
		"clients' CA without TLS": {[]string{"--tls", "off", "--tls-client-ca", file}, "--tls-client-ca: needs TLS"},
		"a missing clients' CA":   {[]string{"--tls-client-ca", "/nonexistent/ca"}, "--tls-client-ca: stat"},
	} {
		_, err := parse(append([]string{"--namespace", "ns", "--pod-name", "p"}, c.args...), empty)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestVersionAndHelpNeedNoOtherFlags(t *testing.T) {
	for args, want := range map[string]string{"--version": version + "\n", "-h": "--poll-interval duration", "--help": "Examples:\n  scaler --credentials-dir"} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{args}, empty, nil, &stdout, &stderr)
		if code != 0 || !strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("%s: exit code %d, error %q, output %q, want 0 and %q", args, code, &stderr, &stdout, want)
		}
	}
}

func TestUnknownFlagsSuggestTheNearestOne(t *testing.T) {
	for args, want := range map[string]string{
		"--poll-intervall": "unknown flag --poll-intervall, did you mean --poll-interval?\nSee \"scaler --help\".\n",
		"-poll-interval":   "unknown flag -poll-interval, did you mean --poll-interval?",
		"--colour":         "unknown flag --colour\n",
	} {
		if _, err := parse([]string{args}, empty); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", args, err, want)
		}
	}
}

func TestAMisspeltVariableEndsTheStart(t *testing.T) {
	t.Setenv("SCALER_POL_INTERVAL", "30s")
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"--credentials-dir", t.TempDir()}, os.LookupEnv, func(context.Context, config) error { return nil }, io.Discard, &stderr)
	if code != 2 || !strings.Contains(stderr.String(), "SCALER_POL_INTERVAL: unknown variable, did you mean SCALER_POLL_INTERVAL?") {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}

func TestTheVariablesOfOpenTelemetryAreChecked(t *testing.T) {
	given := map[string]string{"OTEL_TRACES_EXPORTER": "jaeger", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER": "always_on"}
	lookup := func(name string) (string, bool) { value, ok := given[name]; return value, ok }
	args := []string{"--tls", "off", "--kubernetes", "off"}
	if _, err := parse(args, lookup); err == nil || !strings.Contains(err.Error(), `OTEL_TRACES_EXPORTER: "jaeger", want otlp, console or none`) {
		t.Errorf("got %v, want the fault of OTEL_TRACES_EXPORTER", err)
	}
	given["OTEL_TRACES_EXPORTER"] = "otlp"
	if _, err := parse(args, lookup); err != nil {
		t.Errorf("with variables that are right: %v", err)
	}
}
