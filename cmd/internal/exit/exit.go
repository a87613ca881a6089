// Package exit contains the exit codes that all commands share, and errors with an exit
// code.
package exit

import (
	"errors"
	"fmt"
	"io"
)

// The exit codes other than 0, which is success.
const (
	// Failed means that the command found something or could not do its work.
	Failed = 1
	// Unclear means that the command line is wrong, or that the answer could not be
	// determined.
	Unclear = 2
)

// Error is an error with an exit code. If Err is nil, Report prints nothing.
type Error struct {
	Code int
	Err  error
	// usage means that Report adds a reference to the command's help.
	usage bool
}

func (e *Error) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// With adds an exit code to an error. It returns nil for nil.
func With(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// Usage marks an error as one of the command line. It returns nil for nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: Unclear, Err: err, usage: true}
}

// Report prints a program's error and, if the command line is wrong, a reference to the
// command's help. It returns the exit code.
func Report(stderr io.Writer, program, command string, err error) int {
	if err == nil {
		return 0
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintf(stderr, "%s: %s\n", program, text)
	}
	var coded *Error
	if !errors.As(err, &coded) {
		return Failed
	}
	if coded.usage {
		_, _ = fmt.Fprintf(stderr, "See \"%s --help\".\n", command)
	}
	return coded.Code
}
