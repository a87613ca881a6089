// Package cluster is a real Kubernetes with KEDA on this one machine: etcd, the control plane, a node (containerd,
// kubelet, kube-proxy), CoreDNS and KEDA, every one built from its Go module with the versions that tools/*/go.mod
// name. No registry is asked for an image.
//
// Build makes the programs (once; they are kept in the user's cache folder), Require sees to the operating system's
// part, Start brings the cluster up, Close takes every trace of it away. A janitor process does the same when the
// process that started the cluster dies, however it dies. Run wraps all of it around a test suite.
//
// What the cluster is used for lives elsewhere: this package knows nothing of the product.
package cluster
