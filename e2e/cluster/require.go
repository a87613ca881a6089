package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// packages are the Debian packages of the programs that a node needs beside what Build makes.
var packages = []struct{ program, name string }{
	{"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"}, {"nft", "nftables"}, {"iptables", "iptables"},
	{"conntrack", "conntrack"}, {"buildah", "buildah"}, {"ip", "iproute2"}, {"mount", "mount"},
}

// cniPackage holds the network plugins, which are in no PATH.
const cniPackage = "containernetworking-plugins"

// installPatience bounds one call of apt-get.
const installPatience = 10 * time.Minute

// Require sees that this machine can run a node: Linux, root, and the programs of the operating system. Missing ones
// are installed with apt-get if it is available, with a line of progress on out; otherwise the error says what is missing.
func Require(ctx context.Context, out io.Writer) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("the local cluster needs Linux, this is %s: use a virtual machine, or an existing cluster", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("the local cluster needs root, for network devices, mounts and cgroups: run this with sudo")
	}
	return install(ctx, out, "the local cluster", missingPackages)
}

// RequirePrograms sees that programs of the operating system are there, as Require does. packages
// has the Debian package of each. Only installing needs root.
func RequirePrograms(ctx context.Context, out io.Writer, packages map[string]string) error {
	return install(ctx, out, strings.Join(slices.Sorted(maps.Keys(packages)), " and "), func() []string {
		var missing []string
		for program, name := range packages {
			if find(program) == "" {
				missing = append(missing, name)
			}
		}
		slices.Sort(missing)
		return missing
	})
}

// install installs Debian packages that are missing.
func install(ctx context.Context, out io.Writer, what string, missingOf func() []string) error {
	missing := missingOf()
	if len(missing) == 0 {
		return nil
	}
	if find("apt-get") == "" {
		return fmt.Errorf("%s: please install %s (Debian's names); there is no apt-get here to do it", what, strings.Join(missing, ", "))
	}
	_, _ = fmt.Fprintf(out, "installing %s ...\n", strings.Join(missing, ", "))
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-y", "-q", "--no-install-recommends"}, missing...),
	} {
		if err := aptGet(ctx, args...); err != nil {
			return fmt.Errorf("installing %s: %w", strings.Join(missing, ", "), err)
		}
	}
	if missing := missingOf(); len(missing) > 0 {
		return fmt.Errorf("%s installed, but their programs are not found", strings.Join(missing, ", "))
	}
	return nil
}

func aptGet(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	cmd := command(ctx, "apt-get", args...)
	cmd.Env = append(cmd.Env, "DEBIAN_FRONTEND=noninteractive")
	return runQuiet(cmd)
}

func missingPackages() []string {
	var missing []string
	for _, p := range packages {
		if find(p.program) == "" && !slices.Contains(missing, p.name) {
			missing = append(missing, p.name)
		}
	}
	if cniPlugins() == "" {
		missing = append(missing, cniPackage)
	}
	return missing
}

// cniPlugins is the folder of the CNI plugins, "" if there is none.
func cniPlugins() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return ""
}

// snapshotterFor is the containerd snapshotter that works in a folder: the kernel refuses an overlay whose upper
// layer is on an overlay itself, as everything in most containers is.
func snapshotterFor(dir string) (string, error) {
	const overlayMagic = 0x794c7630 // OVERLAYFS_SUPER_MAGIC, linux/magic.h
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return "", fmt.Errorf("looking at the file system of %s: %w", dir, err)
	}
	if fs.Type == overlayMagic {
		return "native", nil
	}
	return "overlayfs", nil
}
