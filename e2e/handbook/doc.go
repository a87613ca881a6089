// Package handbook plays what the documentation tells its readers to do: each
// command and manifest of the README, deploy/ and docs/ on a real cluster, in an order
// in which a user would.
package handbook
