package wrapper

import (
	"context"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// reportTimeout bounds the time in which the runner's end is reported to the
// sidecar.
const reportTimeout = 2 * time.Second

// signalWait bounds the wait for the kubelet's signal after the runner of a deleted
// pod has ended. The kubelet sends the signal when the preStop hook has returned.
// If process 1 ended before that, it would kill the hook: Kubernetes would report
// the hook as failed, and containerd sometimes does not see the container's end
// until the grace period is over.
const signalWait = 5 * time.Second

// executor looks after a running runner.
type executor struct {
	config Config
	log    *zap.Logger
	state  *stateTracker
	last   *lastLine
	// stop receives the sidecar's order to stop the runner.
	stop chan socket.Message
	// ended receives the runner's exit code.
	ended chan int
}

// run looks after the runner until it has ended, and returns the exit code for the
// container.
func (e *executor) run(ctx context.Context, child *process, conn *socket.Conn, signals <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		e.keepSession(ctx, conn)
	}()
	code, awaitSignal := e.supervise(child, signals)
	timer := time.AfterFunc(reportTimeout, cancel)
	defer timer.Stop()
	<-reported
	if awaitSignal {
		select {
		case <-signals:
		case <-time.After(signalWait):
		}
	}
	return code
}

// supervise passes signals and orders on until the runner has ended. It returns the
// exit code, and whether the kubelet's signal is still to come.
func (e *executor) supervise(child *process, signals <-chan os.Signal) (code int, awaitSignal bool) {
	silent := time.AfterFunc(silence, e.state.silent)
	defer silent.Stop()
	var kill <-chan time.Time
	stopped, signalled := false, false
	for {
		select {
		case caught := <-signals:
			if caught == syscall.SIGTERM || caught == syscall.SIGINT {
				signalled = true
				e.state.terminate()
			}
			child.signal(caught.(syscall.Signal))
		case order := <-e.stop:
			if stopped {
				continue
			}
			stopped, awaitSignal = true, order.Terminating
			e.log.Info("stopping the runner", zap.String("reason", order.Reason))
			e.state.stop()
			child.signal(syscall.SIGTERM)
			timer := time.NewTimer(e.config.StopGrace)
			defer timer.Stop()
			kill = timer.C
		case <-kill:
			kill = nil
			e.log.Warn("the runner did not end in time, killing it", zap.Duration("grace", e.config.StopGrace))
			child.signal(syscall.SIGKILL)
		case code := <-child.exited:
			child.finishOutput()
			e.ended <- code
			if stopped {
				return 0, awaitSignal && !signalled
			}
			return code, false
		}
	}
}
