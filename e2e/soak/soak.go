package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/e2e/cluster"
	"bitbucket-runner-scaler/e2e/installation"
)

const sampleEvery = 10 * time.Second

// soak is one run.
type soak struct {
	installed *installation.Installation
	node      string // the directory of the node's files
	versions  cluster.Versions
	options   options
	out       io.Writer

	begun time.Time
	// pipelines are those that were pushed, by UUID.
	pipelines map[string]bool
	// passed and failed are the steps that ended, by UUID: how long they waited, and why
	// they failed.
	passed  map[string]time.Duration
	failed  map[string]string
	samples []sample
	kills   int
}

func newSoak(installed *installation.Installation, c *cluster.Cluster, o options, out io.Writer) *soak {
	return &soak{
		installed: installed, node: filepath.Dir(c.Kubeconfig()), versions: c.Binaries().Versions, options: o, out: out,
		pipelines: map[string]bool{}, passed: map[string]time.Duration{}, failed: map[string]string{},
	}
}

// run applies the load, kills leaders and samples until the time is over, and then removes
// the groups.
func (s *soak) run(ctx context.Context) (result, error) {
	before, err := s.sample(ctx)
	if err != nil {
		return result{}, err
	}
	if err := s.applyGroups(ctx); err != nil {
		return result{}, err
	}
	s.begun = time.Now()
	if err := s.load(ctx); err != nil {
		return result{}, err
	}
	if err := s.drainLoad(ctx); err != nil {
		return result{}, err
	}
	if err := s.removeGroups(ctx); err != nil {
		return result{}, err
	}
	// The kubelet removes the directories of a pod some seconds after the pod.
	var after sample
	err = installation.Until(ctx, patience, "the directories of the pods to be removed", func() (bool, error) {
		var err error
		after, err = s.sample(ctx)
		return after.Directories <= before.Directories, err
	})
	state, stateErr := s.installed.Control.State(ctx)
	if stateErr != nil {
		return result{}, stateErr
	}
	if err != nil && ctx.Err() != nil {
		return result{}, err
	}
	return s.judge(before, after, state.Counters), nil
}

// load pushes, kills and samples until the time is over.
func (s *soak) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.duration)
	defer cancel()
	pushes, kills, looks := time.NewTicker(pushEvery), time.NewTicker(s.options.killEvery), time.NewTicker(sampleEvery)
	defer pushes.Stop()
	defer kills.Stop()
	defer looks.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			return ctx.Err()
		case <-pushes.C:
			err = s.push(ctx)
		case <-kills.C:
			if s.options.duration-time.Since(s.begun) > s.options.killEvery/2 {
				err = s.kill(ctx)
			}
		case <-looks.C:
			err = s.take(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

func (s *soak) take(ctx context.Context) error {
	now, err := s.sample(ctx)
	if err != nil {
		return err
	}
	s.samples = append(s.samples, now)
	if len(s.samples)%6 == 0 {
		leader, _ := now.leader()
		_, _ = fmt.Fprintf(s.out, "%3.0f min: %d pipelines, %d steps passed, %d failed; %d runners, %d Jobs; leader %s: %.1f MiB, %.0f goroutines\n",
			now.At.Sub(s.begun).Minutes(), len(s.pipelines), len(s.passed), len(s.failed), now.Runners, now.Jobs, leader.Pod, leader.Resident/mebi, leader.Goroutines)
	}
	return nil
}

// kill ends the leading process as the kernel does when memory runs out.
func (s *soak) kill(ctx context.Context) error {
	var leaders corev1.PodList
	if err := s.list(ctx, &leaders, "-n", installation.ControlPlane, "get", "pods", "-l", "bitbucket-runner-scaler/role=leader"); err != nil {
		return err
	}
	if len(leaders.Items) != 1 {
		return fmt.Errorf("%d pods lead, want one", len(leaders.Items))
	}
	pid, err := scalerOf(string(leaders.Items[0].UID))
	if err != nil {
		return err
	}
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		return fmt.Errorf("kill the leader %s: %w", leaders.Items[0].Name, err)
	}
	s.kills++
	_, _ = fmt.Fprintf(s.out, "%3.0f min: killed the leader %s\n", time.Since(s.begun).Minutes(), leaders.Items[0].Name)
	return nil
}

// scalerOf finds the process of the scaler in a pod. This machine is the node.
func scalerOf(pod string) (int, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		args, err := p.CmdLine()
		if err != nil || len(args) == 0 || args[0] != "/scaler" { // it may have ended meanwhile
			continue
		}
		cgroups, err := p.Cgroups()
		if err == nil && slices.ContainsFunc(cgroups, func(c procfs.Cgroup) bool { return strings.Contains(c.Path, pod) }) {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("no process of the scaler in pod %s", pod)
}
