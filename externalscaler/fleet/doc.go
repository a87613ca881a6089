// Package fleet owns what is: the runners that Bitbucket lists for a scope, what
// their sidecars report, and the unfinished Jobs of the cluster, joined into one
// immutable snapshot a runner group.
//
// It polls one list a credentials set and scope, whatever the number of groups,
// and keeps a short memory of the writes made since, so that a list that lags
// behind never hides a runner that was just created. It decides nothing: the
// rules live in package policy, the writers in externalscaler/registrar and
// externalscaler/reaper. It does not import client-go: what it needs of Kubernetes
// is the interface Kubernetes.
package fleet
