package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// janitorPatience is longer than the janitor's own, so that its report comes first.
const janitorPatience = 150 * time.Second

// janitor is the process that takes the cluster away as soon as our end of its pipe is closed: by finish, or by the
// kernel when this process dies.
type janitor struct {
	cmd    *exec.Cmd
	pipe   io.WriteCloser
	report string
}

// startJanitor builds the janitor and starts it; it takes a share in the lock.
func startJanitor(ctx context.Context, plan, cache string, lock *os.File) (*janitor, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	program := filepath.Join(cache, "janitor")
	build := command(ctx, "go", "build", "-trimpath", "-o", program, "./cluster/internal/janitor")
	build.Dir = root
	build.Env = environment("CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if err := runQuiet(build); err != nil {
		return nil, fmt.Errorf("building the janitor: %w", err)
	}
	j := &janitor{report: filepath.Join(cache, "janitor.log")}
	report, err := os.Create(j.report)
	if err != nil {
		return nil, err
	}
	defer func() { _ = report.Close() }() // the janitor holds its own
	j.cmd = command(context.Background(), program, plan)
	j.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// A file, for it must be able to write when nobody reads any more.
	j.cmd.Stdout, j.cmd.Stderr = report, report
	j.cmd.ExtraFiles = []*os.File{lock}
	j.cmd.Dir = "/"
	if j.pipe, err = j.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := j.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the janitor: %w", err)
	}
	return j, nil
}

// finish lets the janitor do its work and returns what it could not take away.
func (j *janitor) finish() error {
	if err := j.pipe.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	deadline := time.AfterFunc(janitorPatience, func() { _ = j.cmd.Process.Kill() })
	defer deadline.Stop()
	if err := j.cmd.Wait(); err != nil {
		left, readErr := os.ReadFile(j.report)
		return errors.Join(fmt.Errorf("taking the cluster away: %w: %s", err, strings.TrimSpace(string(left))), readErr)
	}
	return nil
}
