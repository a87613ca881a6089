package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zaptest"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/status/api"
	"bitbucket-runner-scaler/externalscaler/testbed"
)

type plain struct{}

func (plain) Bad(text string) string  { return text }
func (plain) Warn(text string) string { return text }

// ctl runs one command, and returns its exit code and output.
func ctl(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	root := &cobra.Command{Use: "runnerctl"}
	command.Group(root, "")
	root.AddCommand(Commands(Settings{
		Lookup: func(string) (string, bool) { return "", false }, Paint: func(io.Writer) Painter { return plain{} },
		UntilInterrupted: func(ctx context.Context, run func(context.Context) error) error { return run(ctx) },
	})...)
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	code = command.Run(ctx, root, args)
	return code, out.String(), errs.String()
}

// installation starts a control plane with one group that scales by the queue, and whose image
// cannot be pulled.
func installation(t *testing.T) (bed *testbed.Bed, address string) {
	t.Helper()
	bed, err := testbed.Start(t.Context(), testbed.Config{
		Dir: t.TempDir(), Emulator: emulator.Options{RateLimit: 1 << 20}, Webhooks: true, KEDAInterval: time.Hour, Logger: zaptest.NewLogger(t),
		ControlPlane: controlplane.Config{Version: "v1.2.3", PollInterval: 200 * time.Millisecond, MaxStaleness: time.Hour},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bed.Close(); err != nil {
			t.Error(err)
		}
	})
	group := bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "linux"}, map[string]string{"workspace": "acme", "repository": "app", "labels": "linux.builds", "strategy": "queuedSteps", "max": "3"})
	job, _ := bed.Cluster.CreateJob(group)
	bed.Cluster.Wait(job.UID, fleet.Cause{Reason: "ImagePullBackOff", Message: "container runner: not found", CannotStart: true})
	return bed, "http://" + bed.HTTPAddress
}

// until runs a command until its output has all of these words.
func until(t *testing.T, words []string, args ...string) (stdout string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, stdout, stderr := ctl(ctx, args...)
		missing := ""
		for _, word := range words {
			if !strings.Contains(stdout, word) {
				missing = word
			}
		}
		if missing == "" {
			return stdout
		}
		if ctx.Err() != nil {
			t.Fatalf("%q: no %q in %s%s", args, missing, stdout, stderr)
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // between two looks at another process
	}
}

func TestStatusAndExplainShowWhatIsWrong(t *testing.T) {
	bed, address := installation(t)
	until(t, []string{
		"error  builds/linux ImagePull", "1 Job does not come to a runner: ImagePullBackOff: container runner: not found", "Correct the image",
		"GROUP", "builds/linux  0", "BelowMin", "calls left in this hour", "version v1.2.3",
	}, "status", "--address", address)
	until(t, []string{"queuedSteps", "acme/app", "self.hosted,linux,linux.builds"}, "status", "-o", "wide", "--address", address)
	var seen state
	if err := json.Unmarshal([]byte(until(t, []string{`"min is 1"`}, "status", "builds/linux", "-o", "json", "--address", address)), &seen); err != nil || len(seen.Groups) != 1 || seen.Groups[0].Decision == nil {
		t.Errorf("-o json: %v, %+v", err, seen)
	}
	until(t, []string{"namespace: builds"}, "status", "-o", "yaml", "--address", address)
	until(t, []string{"builds/linux has 1 runner: 1 pending.", "They are for acme/app", "Now: 1 runner is wanted (BelowMin): min is 1.", "Seen: 1 pending, min 1, max 3.", "The last changes"}, "explain", "linux", "-n", "builds", "--address", address)

	if _, err := bed.Control.QueueSteps(t.Context(), emulator.StepRequest{Workspace: "acme", Repository: "app", Labels: []string{"linux", "linux.bulds"}, Duration: "1m", Count: 1}); err != nil {
		t.Fatal(err)
	}
	words := []string{"asks for a runner that no group has", "LabelMissing: no runner group has the labels linux, linux.bulds; builds/linux comes closest and lacks linux.bulds (it has linux.builds)"}
	until(t, words, "explain", "step", "https://bitbucket.org/acme/app/pipelines/results/1", "--address", address)
	var steps []api.Step
	if err := json.Unmarshal([]byte(until(t, []string{"LabelMissing"}, "explain", "step", "https://bitbucket.org/acme/app/pipelines/results/1", "-o", "json", "--address", address)), &steps); err != nil {
		t.Fatal(err)
	}
	until(t, words, "explain", "step", steps[0].UUID, "--address", address)
	until(t, words, "explain", "step", steps[0].URL, "--address", address)
}

func TestWhatIsNotKnownIsAnError(t *testing.T) {
	_, address := installation(t)
	until(t, []string{"builds/linux"}, "status", "--address", address)
	for name, c := range map[string]struct {
		args []string
		code int
		text string
	}{
		"group":          {[]string{"explain", "builds/other", "--address", address}, 1, `group: "builds/other" is not known, want one of: builds/linux`},
		"status's group": {[]string{"status", "builds/other", "--address", address}, 1, `want one of: builds/linux`},
		"step":           {[]string{"explain", "step", "{c3df9272-4777-476a-b869-376694f6c7e5}", "--address", address}, 1, "is not known. The scaler knows the steps of live pipelines"},
		"build":          {[]string{"explain", "step", "https://bitbucket.org/acme/app/pipelines/results/99", "--address", address}, 1, "build 99 of acme/app is not known"},
		"workspace":      {[]string{"explain", "step", "https://bitbucket.org/other/app/pipelines/results/1", "--address", address}, 1, "build 1 of other/app is not known"},
		"no step":        {[]string{"explain", "step", "https://example.com/", "--address", address}, 2, "want a step's UUID, or the address"},
		"too few":        {[]string{"explain", "--scaler", "x", "--address", "ftp://x"}, 2, `--scaler: "x", want NAMESPACE/SERVICE`},
		"a query":        {[]string{"status", "--address", address + "?x=1"}, 2, `want http://HOST:PORT`},
		"runner":         {[]string{"drain", "nobody", "--address", address}, 1, `"nobody" is not the name, UUID, pod or Job of a runner`},
		"node":           {[]string{"drain", "node/x", "--address", address}, 1, `no runner is on the node "x"`},
		"unreachable":    {[]string{"status", "--address", "http://127.0.0.1:1"}, 2, "http://127.0.0.1:1"},
		"no kubeconfig":  {[]string{"status", "--kubeconfig", "/nowhere"}, 2, "kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := ctl(t.Context(), c.args...)
			if code != c.code || !strings.Contains(stderr, c.text) {
				t.Errorf("exit code %d, stderr %s, stdout %s; want %d and %q", code, stderr, stdout, c.code, c.text)
			}
		})
	}
}

func TestWatchShowsEachChange(t *testing.T) {
	bed, address := installation(t)
	until(t, []string{"builds/linux"}, "status", "--address", address)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		f := &statusFlags{target: target{address: address, scaler: defaultScaler, output: "table"}, watch: true}
		ended <- f.run(ctx, nil, write, plain{})
		_ = write.Close()
	}()
	changed := false
	buffer, text := make([]byte, 1<<16), ""
	for !strings.Contains(text, "builds/second") {
		n, err := read.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		text += string(buffer[:n])
		if !changed && strings.Contains(text, "version v1.2.3") {
			changed = true
			bed.Cluster.Apply(fleet.GroupKey{Namespace: "builds", Name: "second"}, map[string]string{"workspace": "acme", "labels": "second"})
		}
	}
	cancel()
	go func() { _, _ = io.Copy(io.Discard, read) }()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAddressesOfStepsAreRead(t *testing.T) {
	const id = "{c3df9272-4777-476a-b869-376694f6c7e5}"
	for given, want := range map[string]place{
		id:                                     {step: id},
		"C3DF9272-4777-476A-B869-376694F6C7E5": {step: id},
		"https://bitbucket.org/acme/app/pipelines/results/812":                                                          {repository: "acme/app", build: 812},
		"https://bitbucket.org/acme/app/pipelines/results/812/":                                                         {repository: "acme/app", build: 812},
		"https://bitbucket.org/acme/app/pipelines/results/812/steps/%7Bc3df9272-4777-476a-b869-376694f6c7e5%7D":         {repository: "acme/app", build: 812, step: id},
		"https://bitbucket.org/acme/app/pipelines/results/812/steps/{c3df9272-4777-476a-b869-376694f6c7e5}/test-report": {repository: "acme/app", build: 812, step: id},
		"https://bitbucket.org/acme/app/addon/pipelines/home#!/results/812":                                             {repository: "acme/app", build: 812},
		"https://bitbucket.org/%7B11111111-1111-4111-8111-111111111111%7D/app/pipelines/results/3":                      {repository: "{11111111-1111-4111-8111-111111111111}/app", build: 3},
	} {
		if got, err := placeOf(given); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", given, got, err, want)
		}
	}
	for _, given := range []string{"", "app", "https://bitbucket.org/acme/app", "https://bitbucket.org/acme/app/pipelines/results/x", "https://bitbucket.org/acme/app/pipelines/results/99999999999999999999", "https://bitbucket.org/acme/app/pipelines/results/1/steps/x"} {
		if got, err := placeOf(given); err == nil {
			t.Errorf("%q: %+v, want an error", given, got)
		}
	}
}
