package lint

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Options are what a check depends on besides its input.
type Options struct {
	// LongestStep that a build may have; Bitbucket's own limit is 2 h.
	LongestStep time.Duration
	// PollInterval is the scaler's --poll-interval.
	PollInterval time.Duration
	// HourlyBudget of a credentials set, in calls an hour, its reserve taken off.
	HourlyBudget int
	// EphemeralLife is how long an ephemeral runner is taken to live.
	EphemeralLife time.Duration
	// CredentialsDir has one folder a credentials set; empty: not looked at.
	CredentialsDir string
	// Nodes are what each node can hold; nil: not looked at.
	Nodes []corev1.ResourceList
}

// DefaultOptions are the scaler's defaults and Bitbucket's limits.
func DefaultOptions() Options {
	return Options{LongestStep: 2 * time.Hour, PollInterval: time.Minute, HourlyBudget: 900, EphemeralLife: time.Hour}
}
