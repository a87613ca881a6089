// Command runnerctl is for whoever configures runner groups. It reads files and
// writes files; check talks to Bitbucket, and lint --kubeconfig reads a cluster.
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
  check WHAT [flags]        look at credentials, Bitbucket itself (live) or a runner's
                            image; runnerctl check -h says more
  schema                    print the JSON Schema of runners_config.yaml, for editors
  lint [FLAGS] FILE…        find what is wrong or dangerous in configuration files,
                            manifests and, with --kubeconfig, a live cluster;
                            exit code 0 nothing found, 1 findings, 2 could not read;
                            --rules prints what it looks for
  version                   print the version
  help                      print this text
`

// errUsage says that the command line was not understood; the usage is printed.
var errUsage = errors.New("see runnerctl help")

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "runnerctl:", err)
		code := 1
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			code = coded.ExitCode()
		}
		os.Exit(code)
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
	case "check":
		err = check(args[1:], stdout, stderr)
	case "schema":
		err = schema(args[1:], stdout)
	case "lint":
		err = lintCommand(args[1:], stdin, stdout, stderr)
	case "version", "--version":
		_, err = fmt.Fprintln(stdout, version)
	case "help", "--help", "-h":
		_, err = io.WriteString(stdout, usage)
	default:
		return fmt.Errorf("command %q: want render, lint, check, schema, version or help: %w", args[0], errUsage)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}
