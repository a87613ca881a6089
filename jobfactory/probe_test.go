package jobfactory

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A probe that fails is a Warning Event: the probe of the Docker daemon waits for it, and
// says what is missing before the kubelet ends it.
func TestTheFirstProbeOfTheDaemonWaitsForIt(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho asked >>" + dir + "/asked\n[ $(wc -l <" + dir + "/asked) -ge 3 ]\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o700); err != nil { //nolint:gosec // a program of the test
		t.Fatal(err)
	}
	began := time.Now()
	probe := exec.CommandContext(t.Context(), "sh", "-c", awaitDaemon)
	probe.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	if output, err := probe.CombinedOutput(); err != nil {
		t.Errorf("the probe failed: %v: %s", err, output)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the probe took %v", took)
	}
}

func TestProbesFailBeforeTheKubeletEndsThem(t *testing.T) {
	const daemonWait = 80 * 0.5 // seconds, apart from the calls themselves
	if probeSeconds >= probeTimeout || daemonWait >= probeTimeout-10 {
		t.Errorf("a probe waits %v s or %v s, with a timeout of %v s", probeSeconds, daemonWait, probeTimeout)
	}
	if probe := probe(startupTries, "x"); probe.FailureThreshold < 24*60*60 || probe.PeriodSeconds != 1 {
		t.Errorf("got %+v, want tries for a day, one soon after the other", probe)
	}
}
