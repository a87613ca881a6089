// Command bench measures the speed of the product, each figure beside a reference of the same run,
// and writes docs/benchmarks.md. It uses loopback alone, and leaves nothing behind.
//
//	go run ./bench                          everything but the cluster
//	go run ./bench -only sidecars           one part
//	go run ./bench -only cluster -from FILE what `go test -json ./suite` has printed on the local cluster
//
// It needs Linux. Nothing fails because a goal is missed: the page says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"bitbucket-runner-scaler/e2e/bench/bed"
	"bitbucket-runner-scaler/e2e/bench/document"
	"bitbucket-runner-scaler/e2e/installation"
)

// run is one run of the benchmarks.
type run struct {
	root, dir, self string
	from, profiles  string
	quick           bool
	document        *document.Document
	out             io.Writer
	about           document.Facts
}

// bound is how long all parts together may take.
const bound = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out io.Writer) error {
	r := &run{out: out}
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(out)
	only := set.String("only", "", "comma-separated `parts` to measure, of "+strings.Join(document.Names, ", ")+"; by default all but cluster")
	set.StringVar(&r.from, "from", "", "`file` with the output of go test -json, for the part cluster")
	set.StringVar(&r.profiles, "profiles", "", "`folder` for profiles of the scaler")
	set.BoolVar(&r.quick, "quick", false, "measure for a tenth of the time, only to see that it works")
	besides := set.String("reference", "", "serve the reference at these addresses")
	if err := set.Parse(args); err != nil {
		return err
	}
	if fields := strings.Split(*besides, ","); len(fields) == 4 {
		return serveReference(ctx, fields[0], fields[1], fields[2], fields[3])
	}
	parts := slices.DeleteFunc(slices.Clone(document.Names), func(name string) bool { return name == "cluster" })
	if *only != "" {
		parts = strings.Split(*only, ",")
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	return r.all(ctx, parts)
}

// all measures parts, one after the other.
func (r *run) all(ctx context.Context, parts []string) (err error) {
	measures := map[string]func(context.Context) error{
		"calls": r.calls, "fleet": r.fleet, "sidecars": r.sidecars, "sidecar": r.sidecar, "simulated": r.simulated, "incumbent": r.incumbent, "cluster": r.cluster,
	}
	for _, name := range parts {
		if measures[name] == nil {
			return fmt.Errorf("-only: %q, want %s", name, strings.Join(document.Names, ", "))
		}
	}
	if r.root, err = installation.Root(); err != nil {
		return err
	}
	if r.profiles != "" {
		if err = os.MkdirAll(r.profiles, 0o755); err != nil {
			return fmt.Errorf("-profiles: %w", err)
		}
	}
	if r.self, err = os.Executable(); err != nil {
		return fmt.Errorf("the program's path: %w", err)
	}
	if r.document, err = document.Open(filepath.Join(r.root, "docs")); err != nil {
		return err
	}
	r.about = document.Here(ctx, r.root)
	if r.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return fmt.Errorf("a folder for logs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if err := r.build(ctx); err != nil {
		return err
	}
	for _, name := range parts {
		begun := time.Now()
		if err := measures[name](ctx); err != nil {
			return fmt.Errorf("%s: %w%s", name, err, r.logs())
		}
		r.log("== %s: %.0f s", name, time.Since(begun).Seconds())
	}
	return nil
}

// build builds the programs with the flags of a release.
func (r *run) build(ctx context.Context) error {
	r.log("building the programs")
	build := exec.CommandContext(ctx, "make", "build", "BIN="+filepath.Join(r.dir, "bin"))
	build.Dir = r.root
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w: %s", err, text)
	}
	return nil
}

// bed starts an installation whose logs are in a folder of that name.
func (r *run) bed(ctx context.Context, name string, workspaces int) (*bed.Bed, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("a folder for logs: %w", err)
	}
	return bed.Start(ctx, dir, filepath.Join(r.dir, "bin"), workspaces)
}

// time is how long something is measured.
func (r *run) time(d time.Duration) time.Duration {
	if r.quick {
		return d / 10
	}
	return d
}

// count is how many samples are taken.
func (r *run) count(n int) int {
	if r.quick {
		return n / 10
	}
	return n
}

func (r *run) log(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// write adds what is the same for all parts, and writes the page. A quick run writes nothing.
func (r *run) write(name string, part document.Part) error {
	part.Date, part.Commit, part.Machine = r.about.Date, r.about.Commit, r.about.Machine
	if part.Command == "" {
		part.Command = "`make bench`"
	}
	for _, row := range part.Rows {
		r.log("  %s: %s (goal %s; %s)", row.What, row.Measured, row.Goal, row.Reference)
	}
	if r.quick {
		return nil
	}
	r.document.Parts[name] = part
	return r.document.Save()
}

// logs are the ends of all logs, for a failure.
func (r *run) logs() string {
	var all strings.Builder
	paths, _ := filepath.Glob(filepath.Join(r.dir, "*", "*.log")) // the pattern is good
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
			fmt.Fprintf(&all, "\n=== %s\n%s", filepath.Base(path), text[max(0, len(text)-2000):])
		}
	}
	return all.String()
}
