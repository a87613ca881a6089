// Package deploytest renders what users apply, the overlays of deploy/ by kustomize
// and the chart by Helm, both as libraries, and holds one against the other, against
// the schemas of Kubernetes, against the Pod Security Standards and against the rights
// that each account needs. It is a module of its own, so that no binary of the product
// links what it needs. Nothing here needs a cluster.
package deploytest
