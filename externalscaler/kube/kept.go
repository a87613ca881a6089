package kube

import (
	"sync"
	"sync/atomic"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// kept are the values that were read from the caches of the watches. A snapshot is built at each
// report of a runner, and most reports come while nothing changes in the cluster. Safe for
// concurrent use.
type kept struct {
	// version counts the changes that the watches, and the Events about slow Jobs, have brought.
	version    atomic.Int64
	jobs       values[fleet.Job]
	pods       values[fleet.Pod]
	scaledJobs values[fleet.ScaledJob]
}

// values are the values of one version. Nobody may change them.
type values[T any] struct {
	mu      sync.Mutex
	known   bool
	version int64
	value   []T
}

// at returns the values of a version, and reads them if it has others.
func (v *values[T]) at(version int64, read func() []T) []T {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.known || v.version != version {
		v.value, v.version, v.known = read(), version, true
	}
	return v.value
}

// forget has the values read again.
func (v *values[T]) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known = false
}
