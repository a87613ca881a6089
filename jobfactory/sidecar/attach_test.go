package sidecar

import (
	"testing"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

func TestANewStreamBeginsWithTheCurrentState(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	s := startSidecar(t, c, dir, nil)
	s.ready(t)
	sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Forever)
	sidecartest.Eventually(t, "the runner is idle", func() bool { return c.last(0) == "IDLE" })
	c.restart(t)
	sidecartest.Eventually(t, "the current state is reported", func() bool { return len(c.states(1)) > 0 })
	if got := c.states(1)[0]; got != "IDLE" {
		t.Errorf("first state of the new stream %q, want IDLE", got)
	}
}

func TestAnUnknownFormatOfTheLinesIsReported(t *testing.T) {
	c, dir := startControlPlane(t), sidecartest.Folder(t)
	startSidecar(t, c, dir, nil).ready(t)
	e := sidecartest.StartExec(t, dir, sidecartest.Online+sidecartest.Completed+sidecartest.Forever) // the end of a step without its beginning
	sidecartest.Eventually(t, "the unknown format is reported", func() bool {
		said := c.latest()
		return said.GetState() == runnerv1.RunnerState_RUNNER_STATE_UNKNOWN && said.GetUnrecognizedOutput()
	})
	c.stop("the pod ends")
	e.ExitCode(t)
}
