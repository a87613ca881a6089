//go:build !linux

package sidecar

// becomeSubreaper: only Linux has subreapers. Runner containers are Linux's; the
// demo, elsewhere, leaves orphans to the system.
func becomeSubreaper() error { return nil }
