package crashloop

import "time"

// When a group counts as one whose Jobs keep failing, and how long it then waits. A
// runner that ends at once costs four or five calls to Bitbucket, and KEDA replaces its
// Job at its next poll: without a delay, one wrong image would use up the hourly budget
// of every group with the same credentials.
const (
	// Age is the life below which a runner that took no step has crashed. A runner that
	// has been online for that long works.
	Age = 2 * time.Minute
	// allowed failures in a row cost nothing.
	allowed    = 2
	firstDelay = 10 * time.Second
	// MaxDelay is the longest delay.
	MaxDelay = 10 * time.Minute
	// memory is how long failures without news are remembered.
	memory = time.Hour
)

// delay is how long a group waits after so many failures in a row.
func delay(failures int) time.Duration {
	if failures <= allowed {
		return 0
	}
	return min(MaxDelay, firstDelay<<min(failures-allowed-1, 10))
}
