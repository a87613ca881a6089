// Package emulator is Bitbucket Cloud in memory, over real HTTP, as far as runners
// and the queue of steps go: the routes, statuses, quirks and limits of the 2.0
// and the internal API, the OAuth token endpoint, the assignment of steps to
// runners, and controls of its own for tests and demos. It is an implementation
// of its own: it shares no code with package bitbucket, which is tested against it.
package emulator
