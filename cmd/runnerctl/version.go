package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/cmd/internal/command"
)

// The linker sets these; see LDFLAGS in the Makefile.
var (
	version = "dev"
	commit  = ""
	date    = ""
)

// build says what a program was built from. Commit and Date, the commit's, are empty
// if the build does not know them.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// built is what this program was built from.
func built() build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(version, commit, date, info)
}

// buildOf takes from info, which may be nil, what the linker did not set.
func buildOf(version, commit, date string, info *debug.BuildInfo) build {
	b := build{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return b
	}
	if v := info.Main.Version; b.Version == "dev" && v != "" && v != "(devel)" {
		b.Version = v
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if b.Commit == "" {
		b.Commit = settings["vcs.revision"]
		if b.Commit != "" && settings["vcs.modified"] == "true" {
			b.Commit += "-dirty"
		}
	}
	if b.Date == "" {
		b.Date = settings["vcs.time"]
	}
	return b
}

func versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit, its date and the version of Go",
		Example: `  runnerctl version
  runnerctl version -o json`,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	set := command.Flags(c, "", nil)
	var output string
	defineOutput(set, &output)
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		set.NoArguments(args)
		if err := set.Err(); err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(c.OutOrStdout(), built())
		}
		return writeBuild(c.OutOrStdout(), built())
	}
	return c
}

func writeBuild(to io.Writer, b build) error {
	text := fmt.Sprintf("runnerctl %s\n", b.Version)
	for _, line := range [][2]string{{"commit", b.Commit}, {"date", b.Date}, {"go", b.Go + " " + b.Platform}} {
		if line[1] != "" {
			text += fmt.Sprintf("%-7s %s\n", line[0], line[1])
		}
	}
	_, err := io.WriteString(to, text)
	return err
}
