package bitbucket

import (
	"fmt"
	"io"
)

const redacted = "[redacted]"

// Secret is a credential that prints, formats and marshals as "[redacted]" with every verb
// and encoder. Only Reveal returns its value.
type Secret string

// Reveal returns the secret itself. It may only be put into a request or into the
// environment of the runner to which it belongs.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb. Without it, %d or %x would print the value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]". JSON and YAML encoders use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
