// Package runnerv1 is the wire between the sidecar of a runner Job and the scaler:
// the messages of runner.proto, and the names beside them that both must know.
package runnerv1

// What sidecar, scaler and the manifests agree on beside the messages.
const (
	// Audience is the audience of the ServiceAccount tokens with which sidecars
	// prove which pod they are in.
	Audience = "bitbucket-runner-scaler"
	// AuthorityConfigMap is the ConfigMap in which the scaler publishes, in each
	// namespace that has a runner group, the authority of its certificate. A
	// runner pod does not start before it exists.
	AuthorityConfigMap = "bitbucket-runner-scaler-ca"
	// AuthorityKey is the key of the PEM bundle in it.
	AuthorityKey = "ca.crt"
)
