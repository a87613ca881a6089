package teardown

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killAll kills every process of the cluster: those with the marker in their environment, and those in its cgroups.
// What they start meanwhile is found in the next round.
func (p *Plan) killAll(ctx context.Context) error {
	if until(ctx, 30*time.Second, func() bool {
		pids := p.processes()
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone by now
		}
		return len(pids) == 0
	}) {
		return nil
	}
	return errors.New("some processes outlived SIGKILL")
}

// processes are the living processes of the cluster, never this one. Nothing is taken from a list of process ids,
// since the kernel gives those to others.
func (p *Plan) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		if p.owns(pid) && !isZombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (p *Plan) owns(pid int) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if environ, err := os.ReadFile(filepath.Join(dir, "environ")); err == nil {
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if string(variable) == p.Marker {
				return true
			}
		}
	}
	membership, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(membership)) {
		// hierarchy-id:controllers:/path
		if fields := strings.SplitN(strings.TrimSpace(line), ":", 3); len(fields) == 3 && within(fields[2], "/"+p.CgroupRoot) {
			return true
		}
	}
	return false
}

// isZombie says whether a process has ended and only waits for its parent to take notice.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	// The state follows the program's name, which stands in parentheses and may hold any character.
	_, after, found := strings.Cut(string(stat[max(0, bytes.LastIndexByte(stat, ')')):]), ") ")
	return found && (strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X"))
}

func commandLine(pid int) string {
	line, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
}

// mounts are the mount points below the cluster's folder, innermost first.
func (p *Plan) mounts() []string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	// The kernel writes these as octal.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if point := unescape.Replace(fields[4]); within(point, p.Dir) {
				points = append(points, point)
			}
		}
	}
	// In the table's reverse order, so that what was mounted last goes first.
	slices.Reverse(points)
	return points
}

func (p *Plan) unmountAll(ctx context.Context) error {
	if until(ctx, 20*time.Second, func() bool {
		points := p.mounts()
		for _, point := range points {
			// Detached: nothing that has it open is ours any more, or it is just ending.
			_ = syscall.Unmount(point, syscall.MNT_DETACH|0x8) // 0x8 is UMOUNT_NOFOLLOW
		}
		return len(points) == 0
	}) {
		return nil
	}
	return fmt.Errorf("mounts that do not go: %s", strings.Join(p.mounts(), ", "))
}

// cgroups are the cluster's cgroups in every hierarchy (one with version 2, many with version 1), innermost first.
func (p *Plan) cgroups() []string {
	var dirs []string
	for _, root := range CgroupRoots() {
		_ = filepath.WalkDir(filepath.Join(root, p.CgroupRoot), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	slices.Reverse(dirs)
	return dirs
}

// CgroupRoots are the roots of the machine's cgroup hierarchies.
func CgroupRoots() []string {
	const mountPoint = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(mountPoint, "cgroup.controllers")); err == nil {
		return []string{mountPoint}
	}
	entries, err := os.ReadDir(mountPoint)
	if err != nil {
		return nil
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() { // links are second names, such as cpu,cpuacct
			roots = append(roots, filepath.Join(mountPoint, entry.Name()))
		}
	}
	return roots
}

func (p *Plan) removeCgroups(ctx context.Context) error {
	if until(ctx, 20*time.Second, func() bool {
		dirs := p.cgroups()
		for _, dir := range dirs {
			_ = os.Remove(dir) // busy until the kernel has buried its last process
		}
		return len(dirs) == 0
	}) {
		return nil
	}
	return fmt.Errorf("cgroups that do not go: %s", strings.Join(p.cgroups(), ", "))
}

// within says whether a path is the folder or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
