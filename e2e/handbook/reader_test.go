package handbook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/installation"
)

// reader is a person who follows the documentation with their own checkout.
type reader struct {
	kube     installation.Kube
	control  *emulator.Control
	registry string // host and port
	url      string // Bitbucket's, from this machine
	root     string
	dir      string // the checkout, where all is typed
	env      []string
	node     string
}

// newReader makes a checkout, a registry for images, and an emulated Bitbucket.
func newReader(t *testing.T) *reader {
	t.Helper()
	root, err := installation.Root()
	if err != nil {
		t.Fatal(err)
	}
	images := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(images.Close)
	r := &reader{kube: shared.kube, registry: strings.TrimPrefix(images.URL, "http://"), root: root, dir: filepath.Join(t.TempDir(), "checkout")}
	r.checkOut(t)
	storage := t.TempDir()
	r.env = append(os.Environ(),
		"PATH="+shared.tools+":"+os.Getenv("PATH"), "KUBECONFIG="+r.kube.Kubeconfig,
		"GOFLAGS=-buildvcs=false", full+"=",
		"CONTAINERS_STORAGE_CONF="+write(t, storage, "storage.conf", fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", storage+"/root", storage+"/run")),
		"CONTAINERS_REGISTRIES_CONF="+write(t, storage, "registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", r.registry)),
	)
	return r
}

func write(t *testing.T, dir, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkOut copies the repository's files, as a clone has them.
func (r *reader) checkOut(t *testing.T) {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "-C", r.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		from, to := filepath.Join(r.root, path), filepath.Join(r.dir, path)
		text, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, not yet committed
		}
		info, statErr := os.Stat(from)
		if err := errors.Join(err, statErr); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode().Perm())); err != nil {
			t.Fatal(err)
		}
	}
}

// edit changes a file of the checkout.
func (r *reader) edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		t.Fatalf("%s: nothing to change", path)
	}
	write(t, r.dir, path, changed)
}

// types runs a script in the checkout and returns its output. Its background processes end
// with the test.
func (r *reader) types(t *testing.T, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandPatience)
	defer cancel()
	output, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", patiently(script))
	// A file, and not a pipe, which what stays in the background would keep open.
	shell.Dir, shell.Env, shell.Stdout, shell.Stderr = r.dir, r.env, output, output
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) }
	shell.WaitDelay = 10 * time.Second
	failed := shell.Run()
	t.Cleanup(func() {
		if err := syscall.Kill(-shell.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		_ = output.Close()
	})
	text, err := os.ReadFile(output.Name())
	if err := errors.Join(failed, err); err != nil {
		t.Fatalf("%v\n%s\nprinted:\n%s", err, script, text)
	}
	return string(text)
}

// until waits for a condition. It continues after errors and reports the last one.
func (r *reader) until(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		ok, err := done()
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			log, _ := r.kube.Run(context.WithoutCancel(ctx), "", "-n", installation.ControlPlane, "logs", "deployment/"+installation.Scaler, "--tail=40")
			t.Fatalf("waited for %s; last error: %v; scaler:\n%s", what, err, log)
		case <-ticker.C:
		}
	}
}
