// Package sidecar is the native sidecar of a runner Job. It registers the pod's
// runner with the control plane, reports the runner's state, carries out the
// control plane's orders and deregisters the runner. Package wrapper, in the runner
// container, starts the runner itself; the two speak through package socket. The
// sidecar speaks runner/v1 to the control plane and knows neither Kubernetes nor
// Bitbucket.
//
// # The shared folder
//
// The sidecar and the runner container share one folder. The sidecar writes into it:
//
//	sidecar       its own binary, so that the runner's image need not contain it
//	sidecar.sock  the socket, see package socket
//	handed-out    the marker: JSON with the runner's UUID, name and scope, without
//	              a secret
//
// The sidecar writes the marker before it gives the environment away. If it finds
// the marker at its start it never registers, because a runner may be running.
package sidecar
