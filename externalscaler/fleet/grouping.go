package fleet

import "bitbucket-runner-scaler/externalscaler/scope"

// grouping is what follows from the Jobs and pods alone. It is immutable.
type grouping struct {
	fromJobs []Job
	fromPods []Pod
	// jobs are the unfinished Jobs of each ScaledJob, and failed those that have failed.
	jobs, failed map[parent][]Job
	// live are the names of the runners of all known pods, by the pods' UIDs, and names the UIDs of
	// the unfinished ones by these names.
	live, names map[string]string
}

// parent names a ScaledJob as the owner of Jobs. A Job names its owner by UID alone, so that it can
// name one of another namespace, which is not its owner.
type parent struct{ namespace, uid string }

// groupingOf returns the grouping of Jobs and pods: the last one if they are the same.
func groupingOf(jobs []Job, pods []Pod, last *grouping) *grouping {
	if last != nil && same(last.fromJobs, jobs) && same(last.fromPods, pods) {
		return last
	}
	g := &grouping{
		fromJobs: jobs, fromPods: pods, jobs: map[parent][]Job{}, failed: map[parent][]Job{},
		live: make(map[string]string, len(pods)), names: make(map[string]string, len(pods)),
	}
	counts := map[parent]int{}
	for i := range jobs {
		counts[parent{jobs[i].Namespace, jobs[i].ScaledJobUID}]++
	}
	for i := range jobs {
		job := &jobs[i]
		key := parent{job.Namespace, job.ScaledJobUID}
		if job.Failed != nil {
			g.failed[key] = append(g.failed[key], *job)
			continue
		}
		if g.jobs[key] == nil { // room for all at once, because there may be many
			g.jobs[key] = make([]Job, 0, counts[key])
		}
		g.jobs[key] = append(g.jobs[key], *job)
		if job.Pod != nil {
			g.live[job.Pod.UID] = scope.RunnerName(job.Pod.Name, job.Pod.UID)
		}
	}
	for i := range pods {
		name := scope.RunnerName(pods[i].Name, pods[i].UID)
		g.live[pods[i].UID], g.names[name] = name, pods[i].UID
	}
	return g
}

// same reports whether two slices are one.
func same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
