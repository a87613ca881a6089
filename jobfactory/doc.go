// Package jobfactory makes runner Jobs: from the configuration of a runner group it
// renders the ScaledJob from which KEDA creates the Jobs, and the other objects
// that the ScaledJob needs. It writes manifests and calls neither Kubernetes nor
// Bitbucket. How a configuration file is read is in package config, and what
// happens inside a Job is in package sidecar.
//
// # The pod
//
// The pod has three containers. The Job ends when the runner container ends.
//
//	sidecar  Native sidecar. It registers and deregisters the runner. Only it has the
//	         token that proves to the scaler which pod it runs in.
//	docker   Native sidecar, privileged. It is the Docker daemon that runs the steps.
//	runner   Atlassian's image. `sidecar exec`, from SharedDir, starts the runner.
//
// As in Atlassian's own Job, the daemon and the runner share /tmp, /var/run (for the
// socket) and /var/lib/docker/containers. SharedDir is outside of them, because
// /var/run is a symbolic link to /run in many images, where a mount below /run and
// the mount at /var/run could hide each other.
package jobfactory
