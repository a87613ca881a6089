package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// systemPath holds the folders of system programs, which the PATH of a plain user's shell often lacks.
const systemPath = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

// find is exec.LookPath that looks into the system's folders too; "" means not found.
func find(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range filepath.SplitList(systemPath) {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// command is a command in a process group of its own, so that a Ctrl-C at the terminal leaves it to us; it and
// whatever it started are killed when the context ends.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := find(name)
	if path == "" {
		path = name // running it says that it is missing
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = environment()
	return cmd
}

// environment is this process's with the system's folders in PATH, and the given variables.
func environment(variables ...string) []string {
	env := make([]string, 0, len(variables)+32)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PATH=") {
			env = append(env, variable)
		}
	}
	env = append(env, "PATH="+strings.Trim(os.Getenv("PATH")+":"+systemPath, ":"))
	return append(env, variables...)
}
