package lint

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/bitbucket"
)

// Options of a check.
type Options struct {
	// LongestStep is the duration of the longest step. Bitbucket's own limit is 2 h.
	LongestStep time.Duration
	// PollInterval is the scaler's --poll-interval.
	PollInterval time.Duration
	// HourlyBudget of a credentials set, in calls per hour: the scaler's --hourly-budget.
	HourlyBudget int
	// EphemeralLife is the assumed life of an ephemeral runner.
	EphemeralLife time.Duration
	// CredentialsDir has one folder per credentials set; empty means not checked.
	CredentialsDir string
	// Nodes has the allocatable resources of each node; nil means not checked.
	Nodes []corev1.ResourceList
}

// DefaultOptions returns the scaler's defaults and Bitbucket's limits.
func DefaultOptions() Options {
	return Options{LongestStep: 2 * time.Hour, PollInterval: time.Minute, HourlyBudget: bitbucket.DefaultBudget, EphemeralLife: time.Hour}
}
