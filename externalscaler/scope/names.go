package scope

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Lengths of a runner's name: Bitbucket keeps to 50 characters
// (runner names are cut at 50 in its user interface).
const (
	podNameLength = 41
	hashLength    = 8
)

// RunnerName derives a runner's name from its pod: the pod's name cut to 41
// characters, a dash, and 8 hex digits of a hash of the pod's UID. So any
// process can tell which runner belongs to which pod.
func RunnerName(podName, podUID string) string {
	if len(podName) > podNameLength {
		podName = podName[:podNameLength]
	}
	return podName + "-" + shortHash(podUID)
}

// OwnerLabel is the label that marks the runners of one installation:
// keda.<cluster>.<8 hex digits> of the kube-system namespace's UID, the control
// plane's own namespace and the name of its Service, so that two clusters, and two
// installations in one, never share it. The usual name counts as none. Without
// Kubernetes (all empty) it is keda.<cluster>.
func OwnerLabel(cluster, kubeSystemUID, namespace, service string) string {
	if kubeSystemUID == "" && namespace == "" {
		return "keda." + cluster
	}
	installation := kubeSystemUID + "/" + namespace
	if service != "" && service != usualService {
		installation += "/" + service
	}
	return "keda." + cluster + "." + shortHash(installation)
}

// usualService is the Service of an installation that is alone in its namespace.
const usualService = "bitbucket-runner-scaler"

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:hashLength/2])
}

// SameLabels reports whether two label lists hold the same set.
func SameLabels(a, b []string) bool {
	if slices.Equal(a, b) {
		return true // in the usual order
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}
