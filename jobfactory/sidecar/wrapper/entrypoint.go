package wrapper

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

// Entrypoint describes the file that a runner's image starts.
type Entrypoint struct {
	// Path inside the image, as given to InspectEntrypoint.
	Path string `json:"path"`
	// Interpreter is the command in a script's first line; empty for a program.
	Interpreter string `json:"interpreter,omitempty"`
	// Execs is true if a script replaces itself by the program that it starts. Else
	// the script stays between process 1 and the runner, and signals reach the runner
	// only because they go to the whole process group.
	Execs bool `json:"execs"`
	// Architecture of the program, or of the script's interpreter, in Go's spelling;
	// empty if unknown.
	Architecture string `json:"architecture,omitempty"`
	// Faults are the reasons why the image cannot be started; empty for none.
	Faults []string `json:"faults,omitempty"`
}

// maxScript bounds how much of a script is read, in bytes.
const maxScript = 1 << 20

// execLine matches a shell's exec of a program, but not of a redirection alone,
// which does not replace the shell.
var execLine = regexp.MustCompile(`(?m)^\s*(?:[A-Za-z_]+=\S*\s+)*exec\s+[^\s<>&0-9]`)

// InspectEntrypoint checks in an image's unpacked root filesystem whether the
// entrypoint exists and can be started. It follows links inside root only. It
// returns an error if root is not a directory.
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
			e.fault("%s is neither a script with #! nor an ELF program", entrypoint)
		}
		return e, nil
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	words := strings.Fields(string(line))
	if len(words) == 0 {
		e.fault("the first line of %s has no interpreter", entrypoint)
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

// open returns the beginning of a file of the image, which must be executable.
func (e *Entrypoint) open(root, name string) (head []byte, ok bool) {
	inside, err := securejoin.SecureJoin(root, name)
	if err != nil {
		e.fault("%s: %v", name, err)
		return nil, false
	}
	info, err := os.Stat(inside)
	switch {
	case errors.Is(err, os.ErrNotExist):
		e.fault("%s is not in the image", name)
		return nil, false
	case err != nil:
		e.fault("%s: %v", name, errors.Unwrap(err))
		return nil, false
	case !info.Mode().IsRegular():
		e.fault("%s is not a regular file", name)
		return nil, false
	case info.Mode()&0o111 == 0:
		e.fault("%s is not executable (%v)", name, info.Mode().Perm())
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

// architecture reads an ELF header; it returns an empty string for other content.
func architecture(head []byte) string {
	const headerSize, machineAt = 64, 18
	if len(head) < headerSize || !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return ""
	}
	machine := elf.Machine(head[machineAt]) | elf.Machine(head[machineAt+1])<<8 // little-endian, like all architectures that Bitbucket's runner supports
	switch machine {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	}
	return machine.String()
}
