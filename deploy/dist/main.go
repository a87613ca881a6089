// Command dist makes what a release consists of, and pushes it: `make dist` and `make publish`.
// It needs Go and git, and no container engine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"bitbucket-runner-scaler/deploy/dist/image"
	"bitbucket-runner-scaler/deploy/dist/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "dist: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "build" {
		return runBuild(ctx, args[1:], stdout)
	}
	if len(args) > 0 && args[0] == "push" {
		return runPush(ctx, args[1:], stdout)
	}
	return errors.New("want a command: build or push; make dist and make publish pass their flags")
}

// Places are where the parts of a release are meant to be published.
type Places struct {
	Image    string `json:"imageRepository"`    // of scaler and sidecar
	Emulator string `json:"emulatorRepository"` // of the emulator's image
	Charts   string `json:"chartRepository"`    // above that of the chart, as for helm push
	Download string `json:"downloadURL"`        // of the directory with the files
	Homepage string `json:"homepage"`
}

// define defines the flags of the places.
func (p *Places) define(set *flag.FlagSet) {
	set.StringVar(&p.Image, "image-repository", "", "`repository` of the image of scaler and sidecar, such as registry.example.com/bitbucket-runner-scaler")
	set.StringVar(&p.Emulator, "emulator-repository", "", "`repository` of the emulator's image")
	set.StringVar(&p.Charts, "chart-repository", "", "`repository` under which the chart is pushed, such as registry.example.com/charts")
	set.StringVar(&p.Download, "download-url", "", "`URL` below which the files of this release can be downloaded")
	set.StringVar(&p.Homepage, "homepage", "", "`URL` of the project for people, in labels of images and the krew manifest")
}

// check returns all faults.
func (p *Places) check() error {
	var faults []error
	for _, repository := range []struct{ flag, value string }{{"-image-repository", p.Image}, {"-emulator-repository", p.Emulator}, {"-chart-repository", p.Charts}} {
		if _, err := image.Repository(repository.value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", repository.flag, err))
		}
	}
	for _, place := range []struct{ flag, value string }{{"-download-url", p.Download}, {"-homepage", p.Homepage}} {
		if u, err := url.Parse(place.value); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || strings.HasSuffix(u.Path, "/") {
			faults = append(faults, fmt.Errorf("%s: got %q, want an https URL without a slash at its end, such as https://downloads.example.com/v0.1.0", place.flag, place.value))
		}
	}
	return errors.Join(faults...)
}

// examples names the places that nobody has chosen.
func (p *Places) examples() (named []string) {
	for _, place := range []struct{ of, value string }{
		{"the image", p.Image}, {"the emulator's image", p.Emulator}, {"the chart", p.Charts}, {"the downloads", p.Download}, {"the homepage", p.Homepage},
	} {
		if strings.Contains(place.value, "example.com") {
			named = append(named, place.of)
		}
	}
	return named
}

func runBuild(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("dist build", flag.ContinueOnError)
	var q release.Request
	var places Places
	var out, ldflags string
	set.StringVar(&q.Root, "root", "../..", "`directory` of the repository")
	set.StringVar(&q.Version, "version", "", "`version` of the release: SemVer with a leading v")
	set.StringVar(&q.Commit, "commit", "", "`commit` that is built")
	set.StringVar(&q.Date, "date", "", "`time` of the commit in the form of RFC 3339, which all files get")
	set.BoolVar(&q.Snapshot, "snapshot", false, "do not check the tree, the tags and the changelog; the version must be a pre-release")
	set.StringVar(&out, "out", "", "`directory` for the files; an earlier one is replaced")
	set.StringVar(&ldflags, "ldflags", "", "`flags` of the linker, which set version, commit and date in the programs")
	places.define(set)
	if err := set.Parse(args); err != nil {
		return err
	}
	made, err := release.Check(ctx, q)
	faults := []error{err, places.check(), checkOut(out)}
	if set.NArg() > 0 {
		faults = append(faults, fmt.Errorf("got the arguments %q, want only flags", set.Args()))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return build(ctx, &distribution{Release: made, Places: places, root: q.Root, out: out, ldflags: ldflags, log: stdout})
}

func runPush(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("dist push", flag.ContinueOnError)
	var built published // only for the help; push compares what is given
	from := set.String("from", "", "`directory` that dist build has written; it knows what the other flags say, and one that differs is refused")
	set.StringVar(&built.Version, "version", "", "`version` of the release")
	built.define(set)
	if err := set.Parse(args); err != nil {
		return err
	}
	given := map[string]string{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = f.Value.String() })
	delete(given, "from")
	return push(ctx, *from, given, stdout)
}
