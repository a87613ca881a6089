// Package fleet owns what exists: it joins the runners that Bitbucket lists, what
// their sidecars report, and the unfinished Jobs of the cluster into one immutable
// snapshot per runner group. A group of which nothing new is known is the same value
// as in the snapshot before, but for at most a second, because time alone changes what
// a runner counts as.
//
// A snapshot holds values. It names the scope of a runner by its ID and gives
// nobody a way to write. Building one changes nothing: the scopes that must be
// polled, and the lists that cannot be trusted, are findings that the Fleet passes
// on afterwards. The package decides nothing: the rules are in package policy, and
// only packages registrar and reaper write. It does not import client-go: what it
// needs of Kubernetes is the interface Kubernetes.
package fleet
