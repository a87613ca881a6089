// Package process runs programs that never outlive this one.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Process is a program that was started. Safe for concurrent use.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	err     error // set before done is closed
}

// Start starts a program whose output is appended to the file log. It is killed when
// this process ends, however that ends.
func Start(log string, environment []string, program string, arguments ...string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", filepath.Base(program), err)
	}
	command := exec.Command(program, arguments...) //nolint:noctx // its life is not a call's
	command.Env, command.Stdout, command.Stderr = environment, file, file
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &Process{command: command, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		defer func() { _ = file.Close() }()
		// The signal at the parent's death is tied to the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if p.err = command.Start(); p.err != nil {
			started <- p.err
			return
		}
		started <- nil
		p.err = command.Wait()
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", filepath.Base(program), err)
	}
	return p, nil
}

// Done is closed when it has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how it ended: nil for exit status 0. For use after Done.
func (p *Process) Err() error { return p.err }

// PID is its number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Signal sends a signal; nothing happens once it has ended.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.command.Process.Signal(s) // it may have ended this moment
	}
}

// Kill ends it at once and waits for it.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// End sends SIGTERM, SIGKILL after the grace, and waits.
func (p *Process) End(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(grace, func() { p.Signal(syscall.SIGKILL) })
	defer timer.Stop()
	<-p.done
}
