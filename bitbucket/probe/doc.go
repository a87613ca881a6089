// Package probe finds out what Bitbucket Cloud really does. Much of what the
// scaler takes to be so comes from documentation and published code alone: Facts
// lists it, once, with what the scaler does so as not to depend on it. Live looks
// at all of it that one throw-away runner can show, and takes the runner away
// again; Access looks at one set of credentials and changes nothing.
//
// What a fact means for runners in production is decided elsewhere: this package
// reports.
package probe
