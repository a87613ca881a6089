package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func empty(string) (string, bool) { return "", false }

func TestEveryBadValueIsToldAtOnce(t *testing.T) {
	_, err := parse([]string{
		"--grpc-listen", "nowhere", "--http-listen", "9", "--bitbucket-url", "ftp://x", "--bitbucket-oauth-url", "::",
		"--cluster", "Not_A_Label", "--poll-interval", "1s", "--max-staleness", "soon", "--write-settle", "-1s", "--orphan-grace", "0",
		"--hourly-budget", "many", "--tls", "perhaps", "--kubernetes", "on", "--log-level", "loud", "--log-format", "xml",
		"--dry-run=perhaps", "--leader-elect=never", "--unsafe-scale-down=2", "--credentials-dir", "/nonexistent/a", "--ca-bundle", "/nonexistent/b", "surplus",
	}, empty, io.Discard)
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
			t.Errorf("lacks %s in:\n%v", want, err)
		}
	}
}

func TestFlagsWinOverTheEnvironment(t *testing.T) {
	t.Setenv("SCALER_POLL_INTERVAL", "90s")
	t.Setenv("SCALER_CLUSTER", "env")
	t.Setenv("SCALER_DRY_RUN", "true")
	t.Setenv("SCALER_HOURLY_BUDGET", "77")
	c, err := parse([]string{"--tls", "off", "--kubernetes", "off", "--cluster", "flag", "--unsafe-scale-down"}, empty, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.pollInterval != 90*time.Second || c.cluster != "flag" || !c.dryRun || !c.unsafeScaleDown || c.hourlyBudget != 77 {
		t.Errorf("got %v, %q, %v, %v, %d", c.pollInterval, c.cluster, c.dryRun, c.unsafeScaleDown, c.hourlyBudget)
	}
}

func TestNamespaceAndNameComeFromThePod(t *testing.T) {
	if _, err := parse([]string{"--tls", "off"}, empty, io.Discard); err == nil || !strings.Contains(err.Error(), "--namespace") || !strings.Contains(err.Error(), "--pod-name") {
		t.Errorf("without them: got %v", err)
	}
	pod := map[string]string{"POD_NAMESPACE": "pods-own", "POD_NAME": "scaler-1"}
	c, err := parse([]string{"--tls", "off"}, func(name string) (string, bool) { value, ok := pod[name]; return value, ok }, io.Discard)
	if err != nil || c.namespace != "pods-own" || c.podName != "scaler-1" || !c.elects() {
		t.Errorf("got %q, %q, elects %v, %v", c.namespace, c.podName, c.elects(), err)
	}
}

func TestTheOnlyReplicaNeedsNoNameOfItsPod(t *testing.T) {
	for name, args := range map[string][]string{
		"told so":            {"--tls", "off", "--namespace", "ours", "--leader-elect=false"},
		"without Kubernetes": {"--tls", "off", "--kubernetes", "off"},
	} {
		if c, err := parse(args, empty, io.Discard); err != nil || c.elects() {
			t.Errorf("%s: elects %v, %v", name, c.elects(), err)
		}
	}
}

func TestTLSIsOnUnlessItIsTurnedOffKnowingly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string // part of the error; empty for none
	}{
		"by default":                    {nil, ""},
		"turned off":                    {[]string{"--tls", "off"}, ""},
		"files":                         {[]string{"--tls", file + "," + file}, ""},
		"files and authorities":         {[]string{"--tls", file + "," + file + "," + file}, ""},
		"a missing file":                {[]string{"--tls", file + ",/nonexistent/key"}, "--tls: stat /nonexistent/key"},
		"no key":                        {[]string{"--tls", file + ","}, "want CERT,KEY"},
		"a word":                        {[]string{"--tls", "on"}, "want auto, off or CERT,KEY[,CA]"},
		"auto without Kubernetes":       {[]string{"--kubernetes", "off"}, "with --kubernetes off want off or CERT,KEY"},
		"clients of plain text":         {[]string{"--tls", "off", "--tls-client-ca", file}, "--tls-client-ca: wants TLS"},
		"clients by a file that is not": {[]string{"--tls-client-ca", "/nonexistent/ca"}, "--tls-client-ca: stat"},
	} {
		_, err := parse(append([]string{"--namespace", "ns", "--pod-name", "p"}, c.args...), empty, io.Discard)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestVersionAndHelpNeedNothingElse(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"--version"}, &out); err != nil || strings.TrimSpace(out.String()) != version {
		t.Errorf("version: got %q, %v", out.String(), err)
	}
	out.Reset()
	if err := run(t.Context(), []string{"-h"}, &out); err != nil || !strings.Contains(out.String(), "-poll-interval") {
		t.Errorf("help: got %q, %v", out.String(), err)
	}
	if err := run(t.Context(), []string{"--colour"}, io.Discard); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("an unknown flag: got %v", err)
	}
}
