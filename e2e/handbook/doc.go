// Package handbook follows the documentation: it runs each command and applies each
// manifest of the README, deploy/ and docs/ on a real cluster, in the order in which a
// user would.
package handbook
