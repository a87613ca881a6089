// Package acceptance applies the manifests of deploy/ and of runnerctl to a real API
// server. It tests schemas, KEDA's CRDs and operator, admission, Pod Security and RBAC.
// There is no node, so no pod runs. Package suite tests running pods.
package acceptance
