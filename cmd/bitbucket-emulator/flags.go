package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/peterbourgon/ff/v3"
)

const envPrefix = "EMULATOR"

// flags are the flags of a command. A value that cannot be read does not hide
// the faults of others: all are in faults after parse.
type flags struct {
	*flag.FlagSet
	faults []error
}

func newFlags(command string, out io.Writer) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	f.SetOutput(out)
	return f
}

// parse takes flags from the command line and the environment. Its error is one
// of flags that do not exist.
func (f *flags) parse(args []string) error {
	if err := ff.Parse(f.FlagSet, args, ff.WithEnvVarPrefix(envPrefix)); err != nil {
		return err
	}
	if f.NArg() > 0 {
		f.fault("arguments: %q, want none, only flags", f.Args())
	}
	return nil
}

func (f *flags) fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Errorf(format, args...))
}

func (f *flags) durationVar(into *time.Duration, name string, value, least time.Duration, usage string) {
	*into = value
	f.Func(name, fmt.Sprintf("%s, a `duration` (default %v)", usage, value), func(given string) error {
		d, err := time.ParseDuration(given)
		switch {
		case err == nil && d >= least:
			*into = d
		case least > 0:
			f.fault("%s: %q, want a positive duration such as %v", name, given, value)
		default:
			f.fault("%s: %q, want a duration such as %v, or 0", name, given, value)
		}
		return nil
	})
}

func (f *flags) intVar(into *int, name string, value, least int, usage string) {
	*into = value
	f.Func(name, fmt.Sprintf("%s (default %d)", usage, value), func(given string) error {
		n, err := strconv.Atoi(given)
		if err != nil || n < least {
			f.fault("%s: %q, want a whole number, at least %d", name, given, least)
			return nil //nolint:nilerr // kept in faults, so that the others are found too
		}
		*into = n
		return nil
	})
}
