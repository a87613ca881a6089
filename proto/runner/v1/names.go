// Package runnerv1 is the protocol between the sidecar of a runner Job and the scaler: the
// messages of runner.proto and the names on which both must agree.
package runnerv1

// The names on which the sidecar, the scaler and the manifests agree.
const (
	// Audience is the audience of the ServiceAccount tokens with which sidecars
	// authenticate.
	Audience = "bitbucket-runner-scaler"
	// AuthorityConfigMap is the name of the ConfigMap in which the scaler publishes
	// the authority of its certificate, in each namespace that has a runner group. A
	// runner pod does not start before it exists.
	AuthorityConfigMap = "bitbucket-runner-scaler-ca"
	// AuthorityKey is the key of the PEM bundle in the ConfigMap.
	AuthorityKey = "ca.crt"
)
