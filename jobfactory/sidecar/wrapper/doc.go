// Package wrapper is what runs in the runner container beside the runner. Exec is
// process 1: it fetches the runner's environment from the sidecar, starts the
// runner with it, reads the runner's state from its log lines, passes signals on
// and reaps children. Drain is the preStop hook. ProbeImage and InspectEntrypoint
// check without a sidecar whether Exec can run an image.
//
// The package speaks to the sidecar through package socket. What the control plane
// decides is in package sidecar.
package wrapper
