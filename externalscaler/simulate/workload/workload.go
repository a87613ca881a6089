// Package workload has the work that a simulation lets runners do: pipelines, each with steps that
// need a runner. A workload is read from CSV, made up from a seed, or made from the pipelines that a
// repository has had. The package simulates nothing.
package workload

import (
	"cmp"
	"slices"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// Workload is a series of pipelines.
type Workload struct {
	// Name is for people.
	Name string
	// Start and End bound the time that is looked at. Pipelines begin within it.
	Start, End time.Time
	// Pipelines in the order in which they begin.
	Pipelines []Pipeline
}

// Pipeline is one run of a pipeline.
type Pipeline struct {
	At time.Time
	// Repository is the slug of its repository; empty if that does not matter.
	Repository string
	// Kind names what is run. Steps of one kind and name take about as long each time.
	Kind  string
	Steps []Step
}

// Step is a step of a pipeline.
type Step struct {
	Name string
	// Labels that its runner must have, as in runs-on. A step without labels runs elsewhere: it takes
	// its time, and no runner.
	Labels   pipelines.Labels
	Duration time.Duration
	// After are the places of the steps that must have ended before it. They are lower than its own.
	After []int
}

// Steps counts the steps that need a runner.
func (w Workload) Steps() (n int) {
	for _, p := range w.Pipelines {
		for _, s := range p.Steps {
			if len(s.Labels) > 0 {
				n++
			}
		}
	}
	return n
}

// LabelSets are the different labels that steps ask for, in the order in which they first appear.
func (w Workload) LabelSets() []pipelines.Labels {
	var sets []pipelines.Labels
	for _, p := range w.Pipelines {
		for _, s := range p.Steps {
			if len(s.Labels) > 0 && !slices.ContainsFunc(sets, func(l pipelines.Labels) bool { return slices.Equal(l, s.Labels) }) {
				sets = append(sets, s.Labels)
			}
		}
	}
	return sets
}

// order sorts the pipelines by the time at which they begin.
func (w *Workload) order() {
	slices.SortStableFunc(w.Pipelines, func(a, b Pipeline) int { return a.At.Compare(b.At) })
}

// New returns a workload of pipelines, which may come in any order. It starts at the first hour with
// a pipeline, and ends with the hour in which the last step would end if none had to wait.
func New(name string, all []Pipeline) Workload {
	w := Workload{Name: name, Pipelines: all}
	w.order()
	if len(all) == 0 {
		return w
	}
	w.Start = w.Pipelines[0].At.Truncate(time.Hour)
	for _, p := range w.Pipelines {
		w.End = later(w.End, p.At.Add(p.Length()))
	}
	w.End = w.End.Add(time.Hour - 1).Truncate(time.Hour)
	return w
}

// Length is how long the pipeline takes if no step has to wait.
func (p Pipeline) Length() time.Duration {
	ends := make([]time.Duration, len(p.Steps))
	for i, s := range p.Steps {
		for _, before := range s.After {
			ends[i] = max(ends[i], ends[before])
		}
		ends[i] += s.Duration
	}
	if len(ends) == 0 {
		return 0
	}
	return slices.Max(ends)
}

func later(a, b time.Time) time.Time {
	if cmp.Compare(a.UnixNano(), b.UnixNano()) > 0 && !a.IsZero() {
		return a
	}
	return b
}
