//go:build !linux

package wrapper

// becomeSubreaper does nothing, because only Linux has subreapers. Runner containers
// run on Linux; the demo on other systems leaves orphans to the system.
func becomeSubreaper() error { return nil }
