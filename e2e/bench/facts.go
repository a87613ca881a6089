package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// facts are what the page says of a run.
type facts struct{ date, commit, machine string }

// read reads the facts. What cannot be read is left out.
func read(ctx context.Context, root string) facts {
	f := facts{date: time.Now().UTC().Format(time.DateOnly), commit: "unknown"}
	if out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--match=").Output(); err == nil {
		f.commit = strings.TrimSpace(string(out))
	}
	cpu := field("/proc/cpuinfo", "model name")
	memory, _ := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	f.machine = fmt.Sprintf("%s, %d cores, %.0f GiB, %s %s, %s", cpu, runtime.NumCPU(), memory/(1<<20), runtime.GOOS, strings.TrimSpace(string(kernel)), runtime.Version())
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		f.machine += fmt.Sprintf("; a virtual machine that others used too: load average %s at the start", strings.Join(strings.Fields(string(load))[:1], ""))
	}
	return f
}

// field is the value of a field of a file in /proc.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
