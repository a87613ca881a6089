package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Binaries are the programs that run in a pod.
type Binaries struct {
	// Sidecar is the path of cmd/sidecar. Runner is the stand-in for Atlassian's runner,
	// with its arguments.
	Sidecar string
	Runner  []string
}

// node runs the containers of pods as processes, in the kubelet's order. It starts the
// native sidecar and, once its startup probe passes, the main container. When the main
// container has ended, it sends SIGTERM to the sidecar. If a pod is deleted, its preStop
// hook runs before any signal.
type node struct {
	cluster  *Cluster
	dir      string
	binaries Binaries
	scaler   string // address
	env      []string
	log      *zap.Logger

	pods sync.WaitGroup
	mu   sync.Mutex
	stop map[string]context.CancelFunc // by pod UID: delete the pod
}

// The times of a pod's life.
const (
	probeInterval = 200 * time.Millisecond
	// podGrace is the grace period of a deleted pod.
	podGrace = 30 * time.Second
)

// run starts a pod and calls finished when it has ended.
func (n *node) run(ctx context.Context, job fleet.Job, token string, finished func(succeeded bool)) {
	deleted, remove := context.WithCancel(ctx)
	n.mu.Lock()
	n.stop[job.Pod.UID] = remove
	n.mu.Unlock()
	n.pods.Go(func() {
		defer remove()
		err := n.pod(ctx, deleted, job, token)
		if err != nil {
			n.log.Info("pod ended", zap.String("pod", job.Pod.Name), zap.Error(err))
		}
		n.mu.Lock()
		delete(n.stop, job.Pod.UID)
		n.mu.Unlock()
		finished(err == nil)
	})
}

// remove deletes a pod.
func (n *node) remove(podUID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if stop := n.stop[podUID]; stop != nil {
		stop()
	}
}

// pod runs a pod until its main container has ended. When deleted ends, pod runs the
// preStop hook and then stops the containers. The node ends with alive.
func (n *node) pod(alive, deleted context.Context, job fleet.Job, token string) (err error) {
	n.cluster.Schedule(job.UID, "testbed")
	dir := filepath.Join(n.dir, job.Pod.UID[:8]) // short: a socket's path has 108 bytes at most
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pod's directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		return fmt.Errorf("pod's token: %w", err)
	}
	log, err := os.Create(filepath.Join(n.dir, job.Pod.Name+".log"))
	if err != nil {
		return fmt.Errorf("pod's log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	shared := []string{"PATH=" + os.Getenv("PATH"), "SIDECAR_DIR=" + filepath.Join(dir, "run"), "SIDECAR_TLS=off"}
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o700); err != nil {
		return fmt.Errorf("pod's emptyDir: %w", err)
	}
	sidecar := start(log, append(shared, "SIDECAR_SCALER_ADDRESS="+n.scaler, "SIDECAR_TOKEN_FILE="+tokenFile), n.binaries.Sidecar, "run")
	n.cluster.StartSidecar(job.UID)
	defer func() { err = errors.Join(err, sidecar.end(podGrace)) }()
	if err := n.probe(deleted, shared, sidecar); err != nil {
		return err
	}
	main := start(log, append(shared, n.env...), filepath.Join(dir, "run", "sidecar"), append([]string{"exec", "--"}, n.binaries.Runner...)...)
	n.cluster.StartRunner(job.UID)
	select {
	case <-main.done:
		return main.err
	case <-deleted.Done():
		n.preStop(alive, log, shared, filepath.Join(dir, "run", "sidecar"), main)
		return errors.Join(errors.New("deleted"), main.end(podGrace))
	}
}

// preStop runs the runner container's preStop hook, unless the node has ended.
func (n *node) preStop(alive context.Context, log *os.File, env []string, sidecar string, main *container) {
	if alive.Err() != nil {
		return
	}
	hook := start(log, env, sidecar, "drain")
	select {
	case <-hook.done:
	case <-main.done:
	case <-alive.Done():
	}
	_ = hook.end(0) // the hook's result does not matter
}

// probe runs the sidecar's startup probe until it passes.
func (n *node) probe(deleted context.Context, env []string, sidecar *container) error {
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		ready := exec.CommandContext(deleted, n.binaries.Sidecar, "ready")
		ready.Env = env
		if ready.Run() == nil {
			return nil
		}
		select {
		case <-deleted.Done():
			return errors.New("deleted before its runner was registered")
		case <-sidecar.done:
			return fmt.Errorf("sidecar ended: %w", sidecar.err)
		case <-ticker.C:
		}
	}
}

// container is one process. done is closed when it has ended. After that, err is its
// error.
type container struct {
	process *os.Process
	done    chan struct{}
	err     error
}

// start starts a process that ends when this one does.
func start(log *os.File, env []string, program string, args ...string) *container {
	c := &container{done: make(chan struct{})}
	started := make(chan struct{})
	go func() {
		defer close(c.done)
		// The parent-death signal is tied to the thread that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		command := exec.Command(program, args...) //nolint:noctx // ended by signals, as a container is
		command.Env, command.Stdout, command.Stderr = env, log, log
		command.SysProcAttr = dieWithParent()
		err := command.Start()
		c.process = command.Process
		close(started)
		if err != nil {
			c.err = fmt.Errorf("start %s: %w", filepath.Base(program), err)
			return
		}
		if err := command.Wait(); err != nil {
			c.err = fmt.Errorf("%s %s: %w", filepath.Base(program), strings.Join(args[:1], " "), err)
		}
	}()
	<-started
	return c
}

// end sends SIGTERM, and SIGKILL after the grace period, and waits for the end.
func (c *container) end(grace time.Duration) error {
	if c.process == nil {
		<-c.done
		return c.err
	}
	_ = c.process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.AfterFunc(grace, func() { _ = c.process.Kill() })
	defer timer.Stop()
	<-c.done
	return c.err
}
