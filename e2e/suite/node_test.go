package suite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// process is one of this machine's, which the cluster's node is.
type process struct {
	pid  int
	args []string
	// environment is as the process was started with.
	environment []byte
	// pod is the UID of its pod; empty outside of pods.
	pod string
}

// is reports whether the process was started with these arguments first.
func (p process) is(args ...string) bool {
	return len(p.args) >= len(args) && strings.Join(p.args[:len(args)], " ") == strings.Join(args, " ")
}

// processes are all that run now. One that ends meanwhile is left out.
func processes(t *testing.T) []process {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var all []process
	for _, folder := range folders {
		p, err := readProcess(folder)
		switch {
		case err == nil:
			all = append(all, p)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		case errors.Is(err, fs.ErrPermission) && p.pod == "": // a supervisor of this machine's
		default:
			t.Fatal(err)
		}
	}
	return all
}

func readProcess(folder string) (process, error) {
	p := process{}
	p.pid, _ = strconv.Atoi(filepath.Base(folder))
	cgroup, err := os.ReadFile(filepath.Join(folder, "cgroup"))
	if err != nil {
		return p, err
	}
	// With cgroups' own driver the kubelet names a pod's group pod<UID>.
	if _, rest, found := strings.Cut(string(cgroup), "/pod"); found {
		p.pod = rest[:strings.IndexAny(rest+"/", "/\n")]
	}
	args, err := os.ReadFile(filepath.Join(folder, "cmdline"))
	if err != nil {
		return p, err
	}
	p.args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
	p.environment, err = os.ReadFile(filepath.Join(folder, "environ"))
	return p, err
}

// processOf waits for the process of a pod that was started with these arguments.
func processOf(t *testing.T, pod string, args ...string) process {
	t.Helper()
	var found process
	until(t, strings.Join(args, " ")+" to run in pod "+pod, func() (bool, error) {
		for _, p := range processes(t) {
			if p.pod == pod && p.is(args...) {
				found = p
				return true, nil
			}
		}
		return false, nil
	})
	return found
}

// kill ends a process as the kernel does when memory runs out.
func (p process) kill(t *testing.T) {
	t.Helper()
	process, err := os.FindProcess(p.pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatalf("kill %v: %v", p.args, err)
	}
}
