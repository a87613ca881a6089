// Command runnerctl is for whoever configures runner groups. It reads files and
// writes files; it talks to no cluster.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// version is set by the linker.
var version = "dev"

const usage = `Usage: runnerctl COMMAND

  render -f FILE [-o DIR]   write the manifests of the runner groups in FILE, a
                            runners_config.yaml, to stdout or into DIR; - is stdin
  version                   print the version
  help                      print this text
`

// errUsage says that the command line was not understood; the usage is printed.
var errUsage = errors.New("see runnerctl help")

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "runnerctl:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("no command: %w", errUsage)
	}
	var err error
	switch args[0] {
	case "render":
		err = render(args[1:], stdin, stdout, stderr)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, version)
	case "help", "--help", "-h":
		_, err = io.WriteString(stdout, usage)
	default:
		return fmt.Errorf("command %q: want render, version or help: %w", args[0], errUsage)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
