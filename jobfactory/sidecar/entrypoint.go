package sidecar

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
)

// Entrypoint is what a file is that a runner's image starts.
type Entrypoint struct {
	// Path is as given, inside the image.
	Path string `json:"path"`
	// Interpreter is what a script names in its first line; empty for a program.
	Interpreter string `json:"interpreter,omitempty"`
	// Execs is true where a script hands its process over to what it starts: else it
	// stands between the runner and its signals, which therefore go to the whole group.
	Execs bool `json:"execs"`
	// Architecture is that of the program, or of the script's interpreter, as Go
	// calls it; empty where it is not known.
	Architecture string `json:"architecture,omitempty"`
	// Faults are why the image could not be started; empty if nothing.
	Faults []string `json:"faults,omitempty"`
}

// maxScript bounds how much of a script is read.
const maxScript = 1 << 20

// execLine is a shell's exec of a program; a redirection alone hands nothing over.
var execLine = regexp.MustCompile(`(?m)^\s*(?:[A-Za-z_]+=\S*\s+)*exec\s+[^\s<>&0-9]`)

// InspectEntrypoint looks at an image's unpacked root filesystem: whether the
// entrypoint is there and can be started. Links are followed inside root alone. The
// error is of a root that is no directory.
func InspectEntrypoint(root, entrypoint string) (Entrypoint, error) {
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return Entrypoint{}, fmt.Errorf("root filesystem %s: want a directory with the unpacked image", root)
	}
	e := Entrypoint{Path: entrypoint}
	if !path.IsAbs(entrypoint) {
		e.fault("%q, want an absolute path inside the image", entrypoint)
		return e, nil
	}
	head, ok := e.open(root, entrypoint)
	if !ok {
		return e, nil
	}
	line, isScript := bytes.CutPrefix(head, []byte("#!"))
	if !isScript {
		e.Architecture = architecture(head)
		if e.Architecture == "" {
			e.fault("%s: neither a script with #! nor an ELF program", entrypoint)
		}
		return e, nil
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		e.fault("%s: its first line names no interpreter", entrypoint)
		return e, nil
	}
	e.Interpreter, e.Execs = strings.Join(words, " "), execLine.Match(head)
	if program, ok := e.open(root, words[0]); ok {
		e.Architecture = architecture(program)
	}
	return e, nil
}

func (e *Entrypoint) fault(format string, args ...any) {
	e.Faults = append(e.Faults, fmt.Sprintf(format, args...))
}

// open reads the beginning of a file of the image that must be executable.
func (e *Entrypoint) open(root, name string) (head []byte, ok bool) {
	inside, err := securejoin.SecureJoin(root, name)
	if err != nil {
		e.fault("%s: %v", name, err)
		return nil, false
	}
	info, err := os.Stat(inside)
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.fault("%s: is not in the image", name)
		return nil, false
	case err != nil:
		e.fault("%s: %v", name, errors.Unwrap(err))
		return nil, false
	case !info.Mode().IsRegular():
		e.fault("%s: is no file", name)
		return nil, false
	case info.Mode()&0o111 == 0:
		e.fault("%s: is not executable (%v)", name, info.Mode().Perm())
	}
	file, err := os.Open(inside)
	if err != nil {
		e.fault("%s: %v", name, errors.Unwrap(err))
		return nil, false
	}
	defer func() { _ = file.Close() }()
	head, err = io.ReadAll(io.LimitReader(file, maxScript))
	if err != nil {
		e.fault("%s: %v", name, errors.Unwrap(err))
		return nil, false
	}
	return head, true
}

// architecture reads an ELF header; empty for what is none.
func architecture(head []byte) string {
	const headerSize, machineAt = 64, 18
	if len(head) < headerSize || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return ""
	}
	machine := elf.Machine(head[machineAt]) | elf.Machine(head[machineAt+1])<<8 // little-endian, as all that Bitbucket's runner runs on
	switch machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return machine.String()
}
