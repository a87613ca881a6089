package testbed

import (
	"cmp"
	"reflect"
	"slices"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// shown are the values that the fleet has read last.
type shown struct {
	scaledJobs []fleet.ScaledJob
	jobs       []fleet.Job
	pods       []fleet.Pod
}

// lasting returns the values that were shown last as long as nothing has changed, as what reads the
// caches of watches does, and otherwise these.
func lasting[T any](shown *[]T, now []T, uid func(T) string) []T {
	slices.SortFunc(now, func(a, b T) int { return cmp.Compare(uid(a), uid(b)) })
	if !reflect.DeepEqual(*shown, now) {
		*shown = now
	}
	return *shown
}
