package teardown

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Run takes away everything that the plan covers and returns what it could not. It can be run again and again. Most
// of it takes a second; it gives up when the context ends.
func Run(ctx context.Context, p *Plan) error {
	// Every step runs even if one before it failed: what can go, goes.
	return errors.Join(
		p.killAll(ctx),
		p.unmountAll(ctx),
		p.removeShimSockets(),
		p.removeNetwork(ctx),
		p.removeCgroups(ctx),
		p.restoreSysctls(),
		p.removeForeignFiles(),
		os.RemoveAll(p.Dir),
		p.Remaining(ctx),
	)
}

// Remaining is an error that names everything that is still there, or nil.
func (p *Plan) Remaining(ctx context.Context) error {
	var left []error
	for _, pid := range p.processes() {
		left = append(left, fmt.Errorf("process %d is still there: %s", pid, commandLine(pid)))
	}
	for _, mount := range p.mounts() {
		left = append(left, fmt.Errorf("mount %s is still there", mount))
	}
	if _, err := os.Stat(filepath.Join("/sys/class/net", p.Bridge)); err == nil {
		left = append(left, fmt.Errorf("network device %s is still there", p.Bridge))
	}
	for _, dir := range p.cgroups() {
		left = append(left, fmt.Errorf("cgroup %s is still there", dir))
	}
	for _, table := range p.Tables {
		if hasTable(ctx, table) {
			left = append(left, fmt.Errorf("nftables table %q is still there", table))
		}
	}
	if _, err := os.Lstat(p.Dir); err == nil {
		left = append(left, fmt.Errorf("folder %s is still there", p.Dir))
	}
	return errors.Join(left...)
}

// until repeats a step until it says that it is done, for at most the given time.
func until(ctx context.Context, patience time.Duration, done func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

func (p *Plan) removeNetwork(ctx context.Context) error {
	var errs []error
	device := filepath.Join("/sys/class/net", p.Bridge)
	// The pods' devices go with their network namespaces, but at the kernel's leisure.
	ports, _ := os.ReadDir(filepath.Join(device, "brif"))
	for _, port := range ports {
		_ = run(ctx, "ip", "link", "delete", port.Name()) // it may be gone by now
	}
	for _, port := range ports {
		if !until(ctx, 10*time.Second, func() bool {
			_, err := os.Stat(filepath.Join("/sys/class/net", port.Name()))
			return errors.Is(err, fs.ErrNotExist)
		}) {
			errs = append(errs, fmt.Errorf("network device %s does not go", port.Name()))
		}
	}
	if _, err := os.Stat(device); err == nil {
		errs = append(errs, run(ctx, "ip", "link", "delete", p.Bridge)) // with its routes
	}
	for _, table := range p.Tables {
		if hasTable(ctx, table) {
			errs = append(errs, run(ctx, "nft", append([]string{"delete", "table"}, strings.Fields(table)...)...))
		}
	}
	for _, rule := range p.ForwardRules {
		if run(ctx, "iptables", append([]string{"-w", "10", "-C", "FORWARD"}, rule...)...) == nil {
			errs = append(errs, run(ctx, "iptables", append([]string{"-w", "10", "-D", "FORWARD"}, rule...)...))
		}
	}
	return errors.Join(errs...)
}

func hasTable(ctx context.Context, table string) bool {
	return run(ctx, "nft", append([]string{"list", "table"}, strings.Fields(table)...)...) == nil
}

func (p *Plan) restoreSysctls() error {
	var errs []error
	for name, before := range p.Sysctls {
		path := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(now)) == before {
			continue
		}
		if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("setting %s back to %s: %w", name, before, err))
		}
	}
	return errors.Join(errs...)
}

// removeShimSockets removes the sockets that containerd's shims put below /run/containerd, wherever its state folder
// is. Each shim notes its own in a file of its bundle.
func (p *Plan) removeShimSockets() error {
	notes, _ := filepath.Glob(filepath.Join(p.Dir, "containerd-state/io.containerd.runtime.v2.task/*/*/address"))
	var errs []error
	for _, note := range notes {
		address, err := os.ReadFile(note)
		if err != nil {
			continue // gone with its bundle
		}
		if path, ok := strings.CutPrefix(strings.TrimSpace(string(address)), "unix://"); ok {
			errs = append(errs, ignoreMissing(os.Remove(path))) //nolint:gosec // noted by our own shim
		}
	}
	return errors.Join(errs...)
}

// removeForeignFiles removes what the cluster left outside its folder, and those folders that it made for that.
func (p *Plan) removeForeignFiles() error {
	var errs []error
	// One result a pod and network; the loopback's are known by the container's name only.
	const results = "/var/lib/cni/results"
	ours, _ := filepath.Glob(filepath.Join(results, p.Network+"-*"))
	for _, path := range ours {
		container, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), p.Network+"-"), "-")
		loopback, _ := filepath.Glob(filepath.Join(results, "cni-loopback-"+container+"-*"))
		for _, path := range append(loopback, path) {
			errs = append(errs, ignoreMissing(os.Remove(path)))
		}
	}
	links, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, p.Dir+"/") {
			errs = append(errs, ignoreMissing(os.Remove(link)))
		}
	}
	if slices.Contains(p.AbsentDirs, devicePlugins) { // else a kubelet of the machine's own may use it
		// A kubelet that had to be killed leaves them.
		for _, name := range []string{"kubelet.sock", "kubelet_internal_checkpoint"} {
			errs = append(errs, ignoreMissing(os.Remove(filepath.Join(devicePlugins, name))))
		}
	}
	for _, dir := range slices.Backward(p.AbsentDirs) {
		_ = os.Remove(dir) // fails where something else is in it, as it should
	}
	return errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// run runs a system program to its end, for at most ten seconds.
func run(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(printed.String()))
	}
	return nil
}
