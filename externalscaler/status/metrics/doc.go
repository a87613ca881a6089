// Package metrics shows the control plane to Prometheus. All metrics are defined in the
// catalogue, from which docs/metrics.md is made.
//
// Metrics holds what happens: its parts count and time it there. Sources are what is: groups,
// scopes and the queue are read at each scrape. So the series of a group end with the group, and
// a standby shows none. The package only reads.
package metrics
