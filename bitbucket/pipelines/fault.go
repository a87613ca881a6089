package pipelines

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds the faults that are reported of one file.
const maxFaults = 100

// FileError is something in a file that Bitbucket refuses, or that has no single meaning.
type FileError struct {
	// Line in the file, from 1; 0 if the fault has no place.
	Line int
	// Path of the field, such as pipelines.default[0].step.runs-on.
	Path string
	// Given is the value in the file; empty if it is missing or long.
	Given string
	// Want says what is accepted instead.
	Want string
}

func (f *FileError) Error() string {
	var text strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&text, "line %d: ", f.Line)
	}
	if f.Path != "" {
		text.WriteString(f.Path + ": ")
	}
	if f.Given != "" {
		fmt.Fprintf(&text, "%q, ", f.Given)
	}
	return text.String() + f.Want
}

// faults are those of one file, each once.
type faults struct {
	found []*FileError
	seen  map[string]bool
}

// add keeps a fault. A step that is used several times through an alias is reported once.
func (f *faults) add(fault *FileError) {
	key := fmt.Sprintf("%d %s %s", fault.Line, fault.Given, fault.Want)
	if f.seen[key] || len(f.found) == maxFaults {
		return
	}
	if f.seen == nil {
		f.seen = map[string]bool{}
	}
	f.seen[key] = true
	f.found = append(f.found, fault)
}

// err joins the faults in the order of lines; nil if there are none.
func (f *faults) err() error {
	slices.SortStableFunc(f.found, func(x, y *FileError) int { return x.Line - y.Line })
	all := make([]error, len(f.found))
	for i, fault := range f.found {
		all[i] = fault
	}
	return errors.Join(all...)
}
