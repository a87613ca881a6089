// Package acceptance has a real API server judge what deploy/ has and what runnerctl
// writes: schemas, KEDA's CRDs and operator, admission, Pod Security and RBAC. There
// is no node, so nothing runs; what runs is tested in e2e/suite.
package acceptance
