package jobfactory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxShown bounds, in bytes, how much of a value an error shows.
const maxShown = 64

// ConfigError is one fault of a runner group's configuration.
type ConfigError struct {
	// Line in the file, from 1; 0 without a file.
	Line int
	// Path of the key, such as groups[0].parameters.min.
	Path string
	// Given is the value, quoted and shortened; empty if there is none.
	Given string
	// Accepted says what is accepted instead.
	Accepted string
}

func (f *ConfigError) Error() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	b.WriteString(f.Path)
	if f.Given != "" {
		return b.String() + ": " + f.Given + ", want " + f.Accepted
	}
	return b.String() + ": " + f.Accepted
}

// NewConfigError returns a fault of the value at a path.
func NewConfigError(path, given, accepted string) *ConfigError {
	return &ConfigError{Path: path, Given: shorten(given), Accepted: accepted}
}

// shorten returns a value as an error shows it.
func shorten(given string) string {
	if len(given) > maxShown {
		given = given[:maxShown] + "..."
	}
	return strconv.Quote(strings.ToValidUTF8(given, "?"))
}

// faults collects what is wrong with a configuration.
type faults []*ConfigError

func (f *faults) add(path, given, accepted string) {
	*f = append(*f, NewConfigError(path, given, accepted))
}

func (f faults) err() error { return JoinFaults(f) }

// JoinFaults joins faults in their order; nil if there are none.
func JoinFaults(all []*ConfigError) error {
	errs := make([]error, len(all))
	for i := range all {
		errs[i] = all[i]
	}
	return errors.Join(errs...)
}

// parameters are the keys that the configuration file has below `parameters`.
var parameters = []string{
	"min", "max", "scale_up_threshold", "scale_down_threshold", "scale_up_multiplier", "scale_down_multiplier", "spare", "count",
	"cool_down", "ephemeral", "max_age", "look_ahead",
}

// ConfigPath returns the configuration file's path, within a group, for a key of
// the trigger's metadata.
func ConfigPath(key string) string {
	if key == "os" {
		return "architecture"
	}
	key = SnakeCase(key)
	if slices.Contains(parameters, key) {
		return "parameters." + key
	}
	return key
}

var capital = regexp.MustCompile(`[A-Z]`)

// SnakeCase returns a camelCase key in snake_case.
func SnakeCase(key string) string {
	return capital.ReplaceAllStringFunc(key, func(s string) string { return "_" + strings.ToLower(s) })
}
