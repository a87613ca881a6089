package wrapper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// outputGrace bounds the wait for output once the runner and its process group
// have ended: a process that left the group may keep the pipes open.
const outputGrace = 2 * time.Second

// process is the runner: a process group of its own, and the group's output.
type process struct {
	// exited receives the exit code once.
	exited chan int

	mu     sync.Mutex
	pid    int
	reaped bool

	pipes   []*os.File
	outputs sync.WaitGroup
}

// start starts the command in a process group of its own and begins to reap. It
// calls observe with each event that a line of the output announces, and keep, unless it
// is nil, with each line.
func start(command []string, stdout, stderr io.Writer, environment []string, observe func(announcement), keep func([]byte)) (*process, error) {
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, fmt.Errorf("find the runner's command: %w", err)
	}
	// Process 1 becomes the parent of orphans anyway; another process has to ask.
	if err := becomeSubreaper(); err != nil {
		return nil, fmt.Errorf("become the parent of orphans: %w", err)
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for the runner's output: %w", err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		_, _ = outRead.Close(), outWrite.Close()
		return nil, fmt.Errorf("pipe for the runner's output: %w", err)
	}
	// Not through os/exec, whose Wait would compete with a reaper of all children.
	pid, err := syscall.ForkExec(path, command, &syscall.ProcAttr{
		Env:   environment,
		Files: []uintptr{0, outWrite.Fd(), errWrite.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	_, _ = outWrite.Close(), errWrite.Close()
	if err != nil {
		_, _ = outRead.Close(), errRead.Close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	p := &process{exited: make(chan int, 1), pid: pid, pipes: []*os.File{outRead, errRead}}
	p.outputs.Go(func() { pass(stdout, outRead, scanner{observe: observe, keep: keep}) })
	p.outputs.Go(func() { pass(stderr, errRead, scanner{observe: observe, keep: keep}) })
	go p.reap()
	return p, nil
}

// pass scans the runner's output and copies it unchanged. It scans first,
// because a reader of the copy may act on a line, and one that stalls must not delay what
// is reported.
func pass(to io.Writer, from io.Reader, lines scanner) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		lines.scan(buffer[:n])
		// A failed write changes nothing: a runner whose output is not read would
		// block.
		_, _ = to.Write(buffer[:n])
		if err != nil {
			lines.end()
			return
		}
	}
}

// reap waits for every child, including orphans, until the runner itself has
// ended. Then it kills what is left in the runner's group, as the end of process 1
// would.
func (p *process) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil { // no child is left: something else has reaped the runner
			p.exited <- failure
			return
		}
		if pid != p.pid || !status.Exited() && !status.Signaled() {
			continue
		}
		p.mu.Lock()
		p.reaped = true
		// The kernel does not reuse the group's number while a process is in the group,
		// and after that only when it has used all other numbers.
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		p.mu.Unlock()
		if status.Signaled() {
			p.exited <- 128 + int(status.Signal())
		} else {
			p.exited <- status.ExitStatus()
		}
		return
	}
}

// signal sends a signal to the runner's process group, unless the runner has ended.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, s) // fails only if the runner has just ended
	}
}

// finishOutput waits for the rest of the output, within outputGrace.
func (p *process) finishOutput() {
	for _, pipe := range p.pipes {
		_ = pipe.SetReadDeadline(time.Now().Add(outputGrace)) // pipes take deadlines
	}
	p.outputs.Wait()
	for _, pipe := range p.pipes {
		_ = pipe.Close() // only read
	}
}

// merge returns the container's environment with the runner's variables, which take
// precedence.
func merge(container []string, runner map[string]string) []string {
	merged := make([]string, 0, len(container)+len(runner))
	for _, entry := range container {
		name, _, _ := strings.Cut(entry, "=")
		if _, ok := runner[name]; !ok {
			merged = append(merged, entry)
		}
	}
	for name, value := range runner {
		merged = append(merged, name+"="+value)
	}
	return merged
}
