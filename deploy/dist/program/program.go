// Package program builds the programs of a release, each statically for its platforms.
package program

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Platform is an operating system and an architecture, by Go's names.
type Platform struct{ OS, Arch string }

// String returns the platform as names of archives have it.
func (p Platform) String() string { return p.OS + "-" + p.Arch }

// Program is one of the programs of cmd/.
type Program struct {
	Name      string
	Platforms []Platform
	// Completes says that the program has the command completion.
	Completes bool
	// Manual says that the program has man pages.
	Manual bool
}

var (
	linux     = []Platform{{"linux", "amd64"}, {"linux", "arm64"}}
	everybody = []Platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"}}
)

// All are the programs of a release: runnerctl for the machines of people, the others for nodes.
var All = []Program{
	{Name: "runnerctl", Platforms: everybody, Completes: true, Manual: true},
	{Name: "scaler", Platforms: linux},
	{Name: "sidecar", Platforms: linux},
	{Name: "bitbucket-emulator", Platforms: linux, Completes: true},
}

// Builder builds programs of the main module.
type Builder struct {
	Root    string // of the repository
	LDFlags string // LDFLAGS of the Makefile, which name the version
	Work    string // an empty directory
}

// File returns the path of a built program.
func (b Builder) File(name string, on Platform) string {
	if on.OS == "windows" {
		name += ".exe"
	}
	return filepath.Join(b.Work, on.String(), name)
}

// Build builds all programs for all of their platforms. begin is called before each platform.
func (b Builder) Build(ctx context.Context, begin func(Platform)) error {
	for _, on := range everybody {
		begin(on)
		dir := filepath.Join(b.Work, on.String())
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		args := append(b.flags(), "-o", dir+string(filepath.Separator))
		for _, p := range All {
			if slices.Contains(p.Platforms, on) {
				args = append(args, "./cmd/"+p.Name)
			}
		}
		if _, err := b.run(ctx, on, "go", args...); err != nil {
			return fmt.Errorf("build for %s: %w", on, err)
		}
	}
	return nil
}

// flags are FLAGS of the Makefile.
func (b Builder) flags() []string {
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", b.LDFlags}
}

// Page is a file that a program writes about itself. Its name is relative to the archive.
type Page struct {
	Name    string
	Content []byte
}

// Pages returns the completions and the man pages of a program. They are the same on all
// platforms, so it is built for this machine.
func (b Builder) Pages(ctx context.Context, p Program) ([]Page, error) {
	if !p.Completes && !p.Manual {
		return nil, nil
	}
	here := Platform{runtime.GOOS, runtime.GOARCH}
	file := filepath.Join(b.Work, "here", p.Name)
	if _, err := b.run(ctx, here, "go", append(b.flags(), "-tags", "man", "-o", file, "./cmd/"+p.Name)...); err != nil {
		return nil, fmt.Errorf("build %s for this machine: %w", p.Name, err)
	}
	var pages []Page
	for _, shell := range []struct{ name, file string }{{"bash", p.Name + ".bash"}, {"zsh", "_" + p.Name}, {"fish", p.Name + ".fish"}, {"powershell", p.Name + ".ps1"}} {
		text, err := b.run(ctx, here, file, "completion", shell.name)
		if err != nil {
			return nil, fmt.Errorf("%s completion %s: %w", p.Name, shell.name, err)
		}
		pages = append(pages, Page{"completions/" + shell.file, text})
	}
	if !p.Manual {
		return pages, nil
	}
	manual := filepath.Join(b.Work, "here", "man")
	if _, err := b.run(ctx, here, file, "man", manual); err != nil {
		return nil, fmt.Errorf("%s man: %w", p.Name, err)
	}
	entries, err := os.ReadDir(manual)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(manual, entry.Name()))
		if err != nil {
			return nil, err
		}
		pages = append(pages, Page{"man/" + entry.Name(), text})
	}
	return pages, nil
}

// run runs a command in the repository, with the settings of a release, and returns its output.
func (b Builder) run(ctx context.Context, on Platform, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = b.Root, Environment(on), os.Stderr
	return cmd.Output()
}

// Environment returns the environment of go for a platform: that of this process, without what
// would change a program.
func Environment(on Platform) []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains([]string{"GOEXPERIMENT", "GOFIPS140", "GODEBUG"}, name)
	})
	// An empty GOFLAGS would not replace one of `go env -w`.
	return append(env, "CGO_ENABLED=0", "GOOS="+on.OS, "GOARCH="+on.Arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-trimpath", "GOWORK=off")
}
