// Package jobfactory makes the runner Job: from a runner group's configuration,
// the ScaledJob that KEDA launches its Jobs from, and what the ScaledJob needs
// beside it. It writes manifests and talks to nobody. What happens inside a Job,
// and what the control plane does for it, is in the packages below this one.
//
// # The pod
//
// Three containers, of which only the last one's end ends the Job:
//
//	sidecar  native sidecar: registers the runner, takes it away again. It alone
//	         has the token that proves which pod it is.
//	docker   native sidecar, privileged: the Docker daemon that runs the steps.
//	runner   Atlassian's image, started by `sidecar exec` out of SharedDir.
//
// The daemon and the runner share /tmp, /var/run (the socket) and
// /var/lib/docker/containers, as Atlassian's own Job does. SharedDir lies
// elsewhere: where /var/run is a symbolic link to /run, a mount below /run and
// the one at /var/run could hide each other.
package jobfactory
