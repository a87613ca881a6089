// Package process runs programs that end when this process ends.
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

// Process is a started program. It is safe for concurrent use.
type Process struct {
	command *exec.Cmd
	done    chan struct{}
	err     error // set before done is closed
}

// Start starts a program and appends its output to the file log. The program is killed
// when this process ends for any reason.
func Start(log string, environment []string, program string, arguments ...string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", filepath.Base(program), err)
	}
	command := exec.Command(program, arguments...) //nolint:noctx // it outlives the call
	command.Env, command.Stdout, command.Stderr = environment, file, file
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &Process{command: command, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		defer func() { _ = file.Close() }()
		// The parent-death signal is tied to the thread that started the program.
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

// Done returns a channel that is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns the program's error, which is nil for exit status 0. Call it after Done.
func (p *Process) Err() error { return p.err }

// PID returns the process ID.
func (p *Process) PID() int { return p.command.Process.Pid }

// Signal sends a signal. It does nothing if the program has ended.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = p.command.Process.Signal(s) // it may just have ended
	}
}

// Kill kills the program and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// End sends SIGTERM, and SIGKILL after the grace period, and waits for the end.
func (p *Process) End(grace time.Duration) {
	p.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(grace, func() { p.Signal(syscall.SIGKILL) })
	defer timer.Stop()
	<-p.done
}
