package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/e2e/installation"
)

// process is what a process of the scaler says of itself.
type process struct {
	Pod     string
	Started time.Time
	Leads   bool
	// Resident and Heap are in bytes.
	Resident, Heap   float64
	Goroutines, Open float64
}

// sample is what is there at a moment.
type sample struct {
	At        time.Time
	Processes []process
	// Restarts are those of all containers of the control plane.
	Restarts int
	// Runners are those at Bitbucket; Jobs those that have not ended; Pods those of the
	// runners' namespace.
	Runners, Jobs, Pods int
	// Directories are those of pods in the kubelet's directory and in that of the logs,
	// beyond one per pod that the API server knows.
	Directories int
	// Objects are the ConfigMaps, Secrets and Leases of both namespaces.
	Objects int
}

// sample looks at everything once. It notes the ended steps too.
func (s *soak) sample(ctx context.Context) (sample, error) {
	now := sample{At: time.Now()}
	var pods, known corev1.PodList
	errs := make([]error, 0, 7)
	errs = append(errs, s.list(ctx, &pods, "-n", installation.ControlPlane, "get", "pods", "-l", "app.kubernetes.io/name="+installation.Scaler))
	for _, pod := range pods.Items {
		for _, container := range pod.Status.ContainerStatuses {
			now.Restarts += int(container.RestartCount)
		}
		if p, err := s.ask(ctx, pod); err == nil { // else it is starting
			now.Processes = append(now.Processes, p)
		}
	}
	state, err := s.installed.Control.State(ctx)
	errs = append(errs, err)
	s.look(state)
	now.Runners = len(state.Runners)
	jobs, _, _, err := s.installed.Jobs(ctx)
	errs = append(errs, err)
	for _, n := range jobs {
		now.Jobs += n
	}
	errs = append(errs, s.list(ctx, &known, "get", "pods", "--all-namespaces"))
	uids := map[string]bool{}
	for _, pod := range known.Items {
		uids[string(pod.UID)] = true
		if pod.Namespace == installation.Runners {
			now.Pods++
		}
	}
	now.Directories, err = s.directories(uids)
	errs = append(errs, err)
	for _, namespace := range []string{installation.ControlPlane, installation.Runners} {
		names, err := s.installed.Kube.Run(ctx, "", "-n", namespace, "get", "configmaps,secrets,leases", "-o", "name")
		errs = append(errs, err)
		now.Objects += len(strings.Fields(names))
	}
	return now, errors.Join(errs...)
}

// list reads a list of objects.
func (s *soak) list(ctx context.Context, into any, args ...string) error {
	text, err := s.installed.Kube.Run(ctx, "", append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// ask reads the metrics of a replica.
func (s *soak) ask(ctx context.Context, pod corev1.Pod) (process, error) {
	text, err := s.installed.Kube.Run(ctx, "", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/http:%s:8080/proxy/metrics", pod.Namespace, pod.Name))
	if err != nil {
		return process{}, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return process{}, fmt.Errorf("metrics of %s: %w", pod.Name, err)
	}
	value := func(name string) float64 {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			err = errors.Join(err, fmt.Errorf("metrics of %s: %d of %s, want one", pod.Name, len(metrics), name))
			return 0
		}
		return metrics[0].GetGauge().GetValue()
	}
	return process{
		Pod: pod.Name, Started: time.Unix(int64(value("process_start_time_seconds")), 0), Leads: value("bitbucket_runner_scaler_leader") == 1,
		Resident: value("process_resident_memory_bytes"), Heap: value("go_memstats_heap_inuse_bytes"),
		Goroutines: value("go_goroutines"), Open: value("process_open_fds"),
	}, err
}

// directories counts the directories of pods that are not known.
func (s *soak) directories(known map[string]bool) (left int, err error) {
	for _, pattern := range []string{"kubelet/pods/*", "kubelet-root/pods/*", "podlogs/*"} {
		found, err := filepath.Glob(filepath.Join(s.node, pattern))
		if err != nil {
			return 0, err
		}
		for _, path := range found {
			// kubelet/pods/UID, podlogs/NAMESPACE_NAME_UID
			parts := strings.Split(filepath.Base(path), "_")
			if !known[parts[len(parts)-1]] {
				left++
			}
		}
	}
	return left, nil
}

// leader returns the process that leads.
func (n sample) leader() (process, bool) {
	i := slices.IndexFunc(n.Processes, func(p process) bool { return p.Leads })
	if i < 0 {
		return process{}, false
	}
	return n.Processes[i], true
}
