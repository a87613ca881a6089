// Package probe checks the real behaviour of Bitbucket Cloud. Many assumptions of the
// scaler are known only from documentation and published code. Facts lists them, with
// what the scaler does in order not to depend on them. Live checks all facts that one
// temporary runner can show, and deletes the runner. Access checks one set of credentials
// and changes nothing.
//
// This package only reports. It does not decide what a fact means for runners in
// production.
package probe
