// Package flags reads a command's flags from its arguments and the environment.
// A value that cannot be read does not hide the faults of the others: all are
// gathered, and told at once. What the values mean is the command's own.
package flags

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/peterbourgon/ff/v3"
)

// Set is the flags of one command.
type Set struct {
	*flag.FlagSet
	// Faults are those found so far.
	Faults []error
	prefix string
}

// New makes an empty Set. Flag name of a command with envPrefix P may be given as
// P_NAME too; help goes to out.
func New(command, envPrefix string, out io.Writer) *Set {
	s := &Set{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError), prefix: envPrefix}
	s.SetOutput(out)
	return s
}

// Read takes the flags' values; arguments win over the environment. Its error is
// one of flags that do not exist, or flag.ErrHelp; faults of values are in Faults.
func (s *Set) Read(args []string) error {
	return ff.Parse(s.FlagSet, args, ff.WithEnvVarPrefix(s.prefix))
}

// Fault adds a fault.
func (s *Set) Fault(format string, args ...any) {
	s.Faults = append(s.Faults, fmt.Errorf(format, args...))
}

// NoArguments adds a fault if there is anything besides flags.
func (s *Set) NoArguments() {
	if s.NArg() > 0 {
		s.Fault("arguments: %q, want none, only flags", s.Args())
	}
}

// Duration defines a flag whose value is at least least.
func (s *Set) Duration(into *time.Duration, name string, value, least time.Duration, usage string) {
	accepted := fmt.Sprintf("a duration such as %v", value)
	if least == 0 {
		accepted += ", or 0"
	}
	if least > 0 {
		accepted = fmt.Sprintf("a positive duration such as %v", value)
	}
	define(s, into, name, value, fmt.Sprintf("`duration`: %s (default %v)", usage, value), accepted, func(given string) (time.Duration, bool) {
		d, err := time.ParseDuration(given)
		return d, err == nil && d >= least
	})
}

// Int defines a flag whose value is at least least.
func (s *Set) Int(into *int, name string, value, least int, usage string) {
	define(s, into, name, value, fmt.Sprintf("`number`: %s (default %d)", usage, value), fmt.Sprintf("a whole number, at least %d", least), func(given string) (int, bool) {
		n, err := strconv.Atoi(given)
		return n, err == nil && n >= least
	})
}

// define makes a flag of any type that is read from one word.
func define[T any](s *Set, into *T, name string, value T, usage, accepted string, read func(given string) (T, bool)) {
	*into = value
	s.Func(name, usage, keep(s, into, name, accepted, read))
}

// Bool defines a flag that may be given without a value.
func (s *Set) Bool(into *bool, name, usage string) {
	s.BoolFunc(name, usage, keep(s, into, name, "true or false", func(given string) (bool, bool) {
		b, err := strconv.ParseBool(given)
		return b, err == nil
	}))
}

// keep takes a value, or keeps its fault and lets the others be read.
func keep[T any](s *Set, into *T, name, accepted string, read func(given string) (T, bool)) func(string) error {
	return func(given string) error {
		value, ok := read(given)
		if !ok {
			s.Fault("--%s: %q, want %s", name, given, accepted)
			return nil
		}
		*into = value
		return nil
	}
}
