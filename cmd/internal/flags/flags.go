// Package flags defines flags that can also be given as environment variables. It collects
// their faults, so that a command reports all of them at once. It does not contain the
// flags of any command.
package flags

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/cmd/internal/exit"
)

// Set contains the flags of one command and their faults.
type Set struct {
	*pflag.FlagSet
	prefix string
	lookup func(string) (string, bool)
	faults []error
}

// New wraps a set of flags. If prefix is P, the flag --some-name can also be given as the
// variable P_SOME_NAME, which is read with lookup. Without a prefix the environment is not
// read.
func New(set *pflag.FlagSet, prefix string, lookup func(string) (string, bool)) *Set {
	return &Set{FlagSet: set, prefix: prefix, lookup: lookup}
}

// Read sets the flags that were not given as arguments from the environment. Call it after
// the arguments are parsed.
func (f *Set) Read() {
	f.oneDash()
	if f.prefix == "" {
		return
	}
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || flag.Name == "help" {
			return
		}
		name := variable(f.prefix, flag.Name)
		given, _ := f.lookup(name)
		if given == "" {
			return
		}
		if err := f.Set(flag.Name, given); err != nil {
			f.Fault("%s: %w", name, err)
		}
	})
}

// oneDash reports long flags with one dash. pflag parses those as a short flag whose value
// is the rest of the name: -fail-on as -f ail-on.
func (f *Set) oneDash() {
	f.Visit(func(flag *pflag.Flag) {
		if flag.Shorthand == "" {
			return
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			name, _, _ := strings.Cut(flag.Shorthand+value, "=")
			if meant := f.Lookup(name); meant != nil {
				f.Fault("-%s: want two dashes, --%s", name, name)
			}
		}
	})
}

// Fault adds a fault.
func (f *Set) Fault(format string, args ...any) {
	f.faults = append(f.faults, fmt.Errorf(format, args...))
}

// Add adds faults that other code found. It ignores nil.
func (f *Set) Add(faults ...error) { f.faults = append(f.faults, faults...) }

// NoArguments adds a fault if there are arguments other than flags.
func (f *Set) NoArguments(args []string) { f.Add(noArguments(args)) }

// NoArguments returns an error if there are arguments other than flags.
func NoArguments(args []string) error { return exit.Usage(noArguments(args)) }

func noArguments(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("arguments: %q, want none, only flags", args)
}

// Err returns all faults as one error, or nil if there are none.
func (f *Set) Err() error { return exit.Usage(errors.Join(f.faults...)) }

// Duration defines a flag whose value must be at least least.
func (f *Set) Duration(into *time.Duration, name string, value, least time.Duration, usage string) {
	accepted := fmt.Sprintf("a duration such as %v", value)
	if least == 0 {
		accepted += ", or 0"
	}
	if least > 0 {
		accepted = fmt.Sprintf("a positive duration such as %v", value)
	}
	define(f, into, flagOf[time.Duration]{name: name, value: value, kind: "duration", accepted: accepted, usage: usage}, func(given string) (time.Duration, bool) {
		d, err := time.ParseDuration(given)
		return d, err == nil && d >= least
	})
}

// Int defines a flag whose value must be at least least.
func (f *Set) Int(into *int, name string, value, least int, usage string) {
	define(f, into, flagOf[int]{name: name, value: value, kind: "number", accepted: fmt.Sprintf("a whole number, at least %d", least), usage: usage}, func(given string) (int, bool) {
		n, err := strconv.Atoi(given)
		return n, err == nil && n >= least
	})
}

// Bool defines a flag that can be given without a value. Its default is the value to which
// into points.
func (f *Set) Bool(into *bool, name, shorthand, usage string) {
	flag := define(f, into, flagOf[bool]{name: name, shorthand: shorthand, value: *into, kind: "bool", accepted: "true or false", usage: usage}, func(given string) (bool, bool) {
		b, err := strconv.ParseBool(given)
		return b, err == nil
	})
	flag.NoOptDefVal = "true"
}

// Choice defines a flag whose value must be one of the accepted words.
func (f *Set) Choice(into *string, name, shorthand, value, usage string, accepted ...string) {
	flag := define(f, into, flagOf[string]{name: name, shorthand: shorthand, value: value, kind: strings.Join(accepted, "|"), accepted: List(accepted), usage: usage}, func(given string) (string, bool) {
		return given, slices.Contains(accepted, given)
	})
	flag.Annotations = map[string][]string{Accepted: accepted}
}

// Accepted is the annotation of a flag that contains the words that it accepts.
const Accepted = "accepted"

// List returns words as alternatives: a, b or c.
func List(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// flagOf describes a flag whose value is parsed from one word.
type flagOf[T any] struct {
	name, shorthand, kind, accepted, usage string
	value                                  T
}

func define[T any](f *Set, into *T, d flagOf[T], read func(given string) (T, bool)) *pflag.Flag {
	*into = d.value
	return f.VarPF(&reader[T]{into: into, kind: d.kind, keep: func(given string) (T, bool) {
		value, ok := read(given)
		if !ok {
			f.Fault("--%s: %q, want %s", d.name, given, d.accepted)
		}
		return value, ok
	}}, d.name, d.shorthand, d.usage)
}

// reader is a flag's value. Set never fails, so that pflag parses the other flags too.
type reader[T any] struct {
	into *T
	kind string
	keep func(given string) (T, bool)
}

func (r *reader[T]) Set(given string) error {
	if value, ok := r.keep(given); ok {
		*r.into = value
	}
	return nil
}

func (r *reader[T]) Type() string { return r.kind }

func (r *reader[T]) String() string {
	if r.into == nil {
		return ""
	}
	return fmt.Sprint(*r.into)
}
