// Package scope owns what this process knows and writes of Bitbucket's scopes: the
// workspaces and repositories in which runners are registered.
//
// A Set has one poller per credentials set and scope, however many runner groups
// there are. Each poller reads one list of runners per interval and remembers the
// writes made since, so that a list that lags never hides a runner that was just
// created. What is known of a scope is given out as a View, a value.
// Writes are methods of the Set that take the scope's ID: code that has no Set cannot
// write. Every write is bounded by the leader's lease, and a runner
// is registered only in a slot that was reserved under the limits.
//
// The package decides nothing about runner groups: packages fleet and policy do.
package scope
