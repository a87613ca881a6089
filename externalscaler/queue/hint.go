package queue

// Hint says that something happened in a repository, so that a read is worth a call. It is
// never believed in itself: a forged one costs a read, and a lost one costs the wait for the
// next poll.
type Hint struct {
	// Credentials is the name of the credentials set whose secret signed the delivery.
	Credentials string
	// Workspace and Repository are UUIDs in braces, or slugs if the delivery names no UUIDs.
	Workspace, Repository string
	// Build is the number of the pipeline; 0 if it is not known.
	Build int
	// Pipeline is the UUID of the pipeline in braces; empty if it is not known.
	Pipeline string
	// Over is true if the delivery says that the pipeline has ended.
	Over bool
}
