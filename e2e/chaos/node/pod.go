package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"bitbucket-runner-scaler/e2e/process"
)

// The kubelet's back-off for containers that end, on the containers' clock.
const (
	restartBase = 10 * time.Second
	restartMax  = 5 * time.Minute
)

// pod is one running pod.
type pod struct {
	node   *Node
	object *corev1.Pod
	log    *zap.Logger

	// deleted is closed when the pod should end in order. killed is closed when it is
	// killed.
	deleted, killed chan struct{}
	deleting        sync.Once
	killing         sync.Once
	grace           time.Duration // set before deleted is closed; the containers' time
	ended           chan struct{}

	mu        sync.Mutex
	processes []*process.Process
	dead      bool // no process may be started any more
	sidecars  []*sidecar
	main      *process.Process
}

func newPod(n *Node, object *corev1.Pod) *pod {
	return &pod{
		node: n, object: object, log: n.log.With(zap.String("pod", object.Name)),
		deleted: make(chan struct{}), killed: make(chan struct{}), ended: make(chan struct{}),
	}
}

// terminate begins the orderly end of the pod.
func (p *pod) terminate(grace time.Duration) {
	p.deleting.Do(func() {
		p.grace = grace
		close(p.deleted)
	})
}

// kill kills the pod and returns when none of its processes runs.
func (p *pod) kill() {
	p.killing.Do(func() { close(p.killed) })
	p.mu.Lock()
	p.dead = true
	processes := p.processes
	p.mu.Unlock()
	for _, one := range processes {
		one.Kill()
	}
	<-p.ended
}

func (p *pod) alive() bool {
	select {
	case <-p.killed:
		return false
	case <-p.ended:
		return false
	default:
		return true
	}
}

// killSidecar kills the first sidecar.
func (p *pod) killSidecar() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead || len(p.sidecars) == 0 {
		return false
	}
	return p.sidecars[0].kill()
}

var errKilled = errors.New("killed")

// start starts a program in a container.
func (p *pod) start(c *container, command []string) (*process.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, errKilled
	}
	started, err := process.Start(p.node.openLog(p.object, c.spec.Name), c.environment, command[0], command[1:]...)
	if err == nil {
		p.processes = append(p.processes, started)
	}
	return started, err
}

// run runs the pod and reports its end.
func (p *pod) run(ctx context.Context) {
	succeeded, err := p.live(ctx)
	p.mu.Lock()
	p.dead = true
	processes := p.processes
	p.mu.Unlock()
	for _, one := range processes {
		one.Kill() // it has no effect on processes that have ended
	}
	close(p.ended)
	if removeErr := os.RemoveAll(p.node.podDir(p.object)); removeErr != nil {
		p.log.Info("pod's volumes not removed", zap.Error(removeErr))
	}
	select {
	case <-p.killed:
		return
	default:
	}
	if err != nil {
		p.log.Info("pod failed", zap.Error(err))
	}
	p.finish(ctx, succeeded, err)
}

// live runs the containers. succeeded is true if the main one ended with status 0.
func (p *pod) live(ctx context.Context) (succeeded bool, err error) {
	containers, err := p.prepare(ctx)
	if err != nil {
		return false, fmt.Errorf("prepare: %w", err)
	}
	defer p.endSidecars()
	for _, c := range containers.sidecars {
		if err := p.startSidecar(ctx, c); err != nil {
			return false, err
		}
	}
	main, err := p.start(containers.main, containers.main.command)
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	p.main = main
	p.mu.Unlock()
	p.report(ctx, corev1.PodRunning, "")
	select {
	case <-main.Done():
	case <-p.killed:
		return false, errKilled
	case <-p.deleted:
		p.stopMain(containers.main, main)
	}
	return main.Err() == nil, main.Err()
}

// stopMain runs the preStop hook and then stops the main container, both within the grace
// period.
func (p *pod) stopMain(c *container, main *process.Process) {
	deadline := time.NewTimer(p.real(p.grace))
	defer deadline.Stop()
	if len(c.preStop) > 0 {
		hook, err := p.start(c, c.preStop)
		if err != nil {
			p.log.Info("preStop hook not started", zap.Error(err))
		} else {
			select {
			case <-hook.Done():
			case <-main.Done():
				hook.Kill()
			case <-p.killed:
			case <-deadline.C:
				hook.Kill()
				main.End(p.real(minGrace))
				return
			}
		}
	}
	main.Signal(syscall.SIGTERM)
	select {
	case <-main.Done():
	case <-p.killed:
	case <-deadline.C:
		main.Kill()
	}
}

// minGrace is the grace period that the kubelet gives a container after the pod's has ended.
const minGrace = 2 * time.Second

// real converts a duration of the containers' clock to the real clock.
func (p *pod) real(d time.Duration) time.Duration { return p.node.config.Clock.Real(d) }

func (p *pod) endSidecars() {
	grace := time.Duration(ptr.Deref(p.object.Spec.TerminationGracePeriodSeconds, 30)) * time.Second
	p.mu.Lock()
	sidecars := p.sidecars
	p.mu.Unlock()
	for i := len(sidecars) - 1; i >= 0; i-- {
		sidecars[i].end(p.real(grace))
	}
}
