package installation

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Kube gives access to a cluster with kubectl, as users have it.
type Kube struct {
	// Kubectl is the path of the program. Kubeconfig is the path of the file.
	Kubectl, Kubeconfig string
}

const (
	kubectlTimeout = 3 * time.Minute
	forwardTimeout = 30 * time.Second
)

func (k Kube) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.Kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.Kubeconfig)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs kubectl and returns its standard output. The error contains its standard error.
func (k Kube) Run(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, kubectlTimeout)
	defer cancel()
	cmd := k.command(ctx, args...)
	var out, complaint strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Forward forwards a free local port to a Service's port and returns the address. It ends
// with ctx. After that, wait waits for kubectl to end.
func (k Kube) Forward(ctx context.Context, namespace, target, port string) (address string, wait func(), err error) {
	cmd := k.command(ctx, "port-forward", "--namespace", namespace, target, ":"+port, "--address", "127.0.0.1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("port-forward: %w", err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("port-forward: %w", err)
	}
	first := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		if lines.Scan() {
			first <- lines.Text()
		}
		close(first)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // ended by ctx
	}()
	timer := time.NewTimer(forwardTimeout)
	defer timer.Stop()
	select {
	case line := <-first: // Forwarding from 127.0.0.1:41234 -> 7990
		fields := strings.Fields(line)
		if len(fields) < 3 {
			<-ended
			return "", nil, fmt.Errorf("port-forward to %s in %s: %s", target, namespace, complaint.String())
		}
		return fields[2], func() { <-ended }, nil
	case <-timer.C:
		_ = cmd.Process.Kill()
		<-ended
		return "", nil, errors.New("port-forward: no answer")
	}
}
