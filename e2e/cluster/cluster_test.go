package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/e2e/cluster"
)

// patience bounds every wait of these tests; a machine may be slow, and may have to build first.
const patience = 5 * time.Minute

// suite lets a function take the place of a *testing.M.
type suite func() int

func (s suite) Run() int { return s() }

func TestPodOfALocalImageRunsOnAClusterWithKEDAAndNothingIsLeft(t *testing.T) {
	require(t)
	before := machine(t)
	var shared *cluster.Cluster
	code := cluster.Run(suite(func() int {
		runsAPod(t, shared)
		hasKEDA(t, shared)
		if t.Failed() {
			return 1
		}
		return 0
	}), func(_ context.Context, c *cluster.Cluster) error {
		shared = c
		return nil
	})
	if code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
	if diff := cmp.Diff(before, machine(t)); diff != "" {
		t.Errorf("the machine is not as it was (-before +after):\n%s", diff)
	}
}

func runsAPod(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	dir := t.TempDir()
	// Static, for an image that holds nothing else.
	goBuild(t, filepath.Join(dir, "probe"), "./testdata/probe", "CGO_ENABLED=0")
	if err := c.BuildImage(t.Context(), "testdata/probe/Dockerfile", dir, "e2e.local/probe:1", "GREETING=hello"); err != nil {
		t.Error(err)
		return
	}
	for _, args := range [][]string{
		{"apply", "-f", "testdata/pod.yaml"},
		{"wait", "pod/probe", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"},
	} {
		if _, err := c.Kubectl(t.Context(), nil, args...); err != nil {
			t.Error(err)
			return
		}
	}
	printed, err := c.Kubectl(t.Context(), nil, "logs", "probe")
	if err != nil {
		t.Error(err)
	}
	if want := "hello reached 10.96.0.1:443 in "; !strings.HasPrefix(printed, want) {
		t.Errorf("the pod's log: got %q, want it to start with %q", printed, want)
	}
}

func hasKEDA(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	got, err := c.Kubectl(t.Context(), nil, "get", "deployments", "-n", "keda", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.readyReplicas}{"\n"}{end}`)
	if err != nil {
		t.Error(err)
		return
	}
	want := "keda-admission 1\nkeda-metrics-apiserver 1\nkeda-operator 1\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("KEDA's deployments and ready replicas (-want +got):\n%s", diff)
	}
}

func TestClusterWhoseProcessIsKilledIsTakenAway(t *testing.T) {
	require(t)
	before := machine(t)
	program := filepath.Join(t.TempDir(), "cluster")
	goBuild(t, program, "../cmd/cluster")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "up")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := false
	for lines := bufio.NewScanner(stdout); !up && lines.Scan(); {
		up = strings.Contains(lines.Text(), "the cluster is up")
	}
	if !up {
		t.Error("the cluster did not come up")
	}
	if slices.Equal(before, machine(t)) {
		t.Error("a running cluster is not seen on the machine, so its absence would say nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // says that it was killed

	deadline := time.Now().Add(patience)
	after := machine(t)
	for ; !slices.Equal(before, after) && time.Now().Before(deadline); after = machine(t) {
		<-time.After(200 * time.Millisecond)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the machine is not as it was (-before +after):\n%s", diff)
	}
}

func TestKEDAsOwnArithmeticAnswers(t *testing.T) {
	require(t)
	binaries, err := cluster.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ question, want string }{
		"what is missing":           {`{"metric":5,"target":1,"max":10,"running":2,"pending":1}`, `{"create":3}`},
		"nothing twice":             {`{"metric":5,"target":1,"max":10,"running":5,"pending":5}`, `{"create":0}`},
		"nothing below zero":        {`{"metric":1,"target":1,"max":10,"running":5,"pending":0}`, `{"create":0}`},
		"up to the maximum":         {`{"metric":50,"target":1,"max":10,"running":4,"pending":0}`, `{"create":6}`},
		"a part of one is one":      {`{"metric":2.1,"target":1,"max":10,"running":0,"pending":0}`, `{"create":3}`},
		"a target of several":       {`{"metric":10,"target":4,"max":10,"running":0,"pending":0}`, `{"create":3}`},
		"nothing while not active":  {`{"metric":0,"target":1,"max":10,"running":0,"pending":0}`, `{"create":0}`},
		"a negative metric is zero": {`{"metric":-3,"target":1,"max":10,"running":0,"pending":0}`, `{"create":0}`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binaries.KEDAArithmetic)
			cmd.Stdin = strings.NewReader(tc.question + "\n")
			got, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(string(got)); got != tc.want {
				t.Errorf("%s: got %s, want %s", tc.question, got, tc.want)
			}
		})
	}
}

func require(t *testing.T) {
	t.Helper()
	if err := cluster.Require(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
}

func goBuild(t *testing.T, out, pkg string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), env...)
	if printed, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", pkg, err, printed)
	}
}

// machine is all that a cluster could leave on the machine, looked at from outside the package: a line for each.
func machine(t *testing.T) []string {
	t.Helper()
	var seen []string
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range environs {
		if environ, err := os.ReadFile(path); err == nil && strings.Contains(string(environ), "E2E_CLUSTER=") {
			seen = append(seen, "process "+path)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/e2e-cluster", "/sys/fs/cgroup/*/e2e-cluster", "/run/containerd/*", "/run/containerd/s/*",
		"/run/netns/*", "/var/lib/cni/*/*", "/var/lib/kubelet", "/var/log/containers/*", "/var/log/pods/*", "/opt/*",
		filepath.Join(os.TempDir(), "e2e-cluster-*"), filepath.Join(os.TempDir(), "keda-manifest-*")} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, paths...)
	}
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic",
		"/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/keys/root_maxkeys"} {
		value, err := os.ReadFile(path)
		seen = append(seen, fmt.Sprintf("%s %s %v", path, strings.TrimSpace(string(value)), err))
	}
	for _, command := range [][]string{{"cat", "/proc/self/mounts"}, {"ip", "-brief", "link"}, {"ip", "route"}, {"nft", "list", "tables"}} {
		printed, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(command, " "), err)
		}
		for line := range strings.Lines(string(printed)) {
			seen = append(seen, strings.TrimSpace(line))
		}
	}
	slices.Sort(seen)
	return seen
}
