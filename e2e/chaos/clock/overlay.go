package clock

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// patch is one replacement in a file of Go's runtime.
type patch struct {
	file, old, new string
}

// The places where the runtime reads the machine's clocks and where it passes a duration
// to the kernel. Everything else uses nanotime and time_now.
var patches = []patch{
	{"time_nofake.go", "\treturn nanotime1()\n", "\treturn chaosMonotonic(nanotime1())\n"},
	// time.now is assembly here; under another name it is what ours starts from.
	{"time_linux_amd64.s", "TEXT time·now<ABIInternal>(SB)", "TEXT runtime·chaosMachineNow<ABIInternal>(SB)"},
	{"timeasm.go", "//go:linkname time_now time.now\nfunc time_now() (sec int64, nsec int32, mono int64)\n",
		"func chaosMachineNow() (sec int64, nsec int32, mono int64)\n\n//go:linkname time_now time.now\nfunc time_now() (sec int64, nsec int32, mono int64) { return chaosNow() }\n"},
	{"os_linux.go", "\tvar ts timespec\n\tts.setNsec(ns)\n\tfutex(", "\tvar ts timespec\n\tts.setNsec(chaosWait(ns))\n\tfutex("},
	{"netpoll_epoll.go", "\tvar waitms int32\n\tif delay < 0 {", "\tvar waitms int32\n\tdelay = chaosWait(delay)\n\tif delay < 0 {"},
	{"proc.go", "\tgoargs()\n\tgoenvs()\n", "\tgoargs()\n\tgoenvs()\n\tchaosStart()\n"},
}

// added is the file that is added to the runtime.
//
//go:embed runtime.go.txt
var added []byte

// ErrPlatform means that this platform is not supported.
var ErrPlatform = errors.New("separate clocks need Linux on amd64")

// Overlay writes the overlay's files into dir and returns the one to give to
// `go build -overlay`.
func Overlay(ctx context.Context, dir string) (path string, err error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", ErrPlatform
	}
	answer, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("overlay: go env: %w", err)
	}
	goroot := strings.TrimSpace(string(answer))
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	replace := map[string]string{}
	write := func(name string, content []byte) error {
		to := filepath.Join(dir, name)
		replace[filepath.Join(goroot, "src", "runtime", name)] = to
		return os.WriteFile(to, content, 0o644) //nolint:gosec // the names are the patches' own
	}
	for _, p := range patches {
		content, err := os.ReadFile(filepath.Join(goroot, "src", "runtime", p.file))
		if err != nil {
			return "", fmt.Errorf("overlay: %w", err)
		}
		if n := strings.Count(string(content), p.old); n != 1 {
			return "", fmt.Errorf("overlay: %s of Go's runtime has %d places for a patch, want 1: another version of Go", p.file, n)
		}
		if err := write(p.file, []byte(strings.Replace(string(content), p.old, p.new, 1))); err != nil {
			return "", fmt.Errorf("overlay: %w", err)
		}
	}
	if err := write("chaosclock.go", added); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	return path, nil
}
