package document

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

// Facts are what the page says of a run.
type Facts struct{ Date, Commit, Machine string }

// Here reads the facts of this checkout and machine. What cannot be read is left out.
func Here(ctx context.Context, root string) Facts {
	f := Facts{Date: time.Now().UTC().Format(time.DateOnly), Commit: "unknown"}
	if out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--match=").Output(); err == nil {
		f.Commit = strings.TrimSpace(string(out))
	}
	cpu := field("/proc/cpuinfo", "model name")
	memory, _ := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64)
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	f.Machine = fmt.Sprintf("%s, %d cores, %.0f GiB, %s %s, %s", cpu, runtime.NumCPU(), memory/(1<<20), runtime.GOOS, strings.TrimSpace(string(kernel)), runtime.Version())
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		f.Machine += fmt.Sprintf("; a virtual machine that others used too: load average %s at the start", strings.Join(strings.Fields(string(load))[:1], ""))
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
