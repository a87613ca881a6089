// Package cluster runs a real Kubernetes with KEDA on this machine: etcd, the control plane, a node (containerd,
// kubelet, kube-proxy), CoreDNS and KEDA. All are built from their Go modules with the versions in tools/*/go.mod. No
// image comes from a registry.
//
// Build makes the programs and keeps them in the user's cache directory. Require installs what is needed of the
// operating system. Start starts the cluster, and Close removes every trace of it. If the process that started the
// cluster dies, a janitor process removes it. Run does all of this for a test suite.
//
// This package does not depend on the product.
package cluster
