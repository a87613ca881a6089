//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
)

// entrypoint is that of Atlassian's image.
const entrypoint = "/opt/atlassian/pipelines/runner/entrypoint.sh"

const imagePlan = `The image must be run, or unpacked; runnerctl does neither. runnerctl must be static to
run inside of the image, as "make build" makes it. To run the image with Docker:

  docker run --rm --volume "$PWD/bin/runnerctl:/runnerctl:ro" --entrypoint /runnerctl \
    %[1]s check image -- %[2]s

With the variables of a registered runner (ACCOUNT_UUID, RUNNER_UUID, OAUTH_CLIENT_ID,
OAUTH_CLIENT_SECRET, WORKING_DIRECTORY, RUNTIME_PREREQUISITES_ENABLED) as --env, it
comes online and its lines show. To check only its files:

  docker export "$(docker create %[1]s)" | tar --extract --directory rootfs
  bin/runnerctl check image --root rootfs -- %[2]s
`

// imageReport is the report on an image.
type imageReport struct {
	Image      string               `json:"image,omitempty"`
	Entrypoint *wrapper.Entrypoint  `json:"entrypoint,omitempty"`
	Trial      *wrapper.ProbeResult `json:"trial,omitempty"`
	Findings   []probe.Finding      `json:"findings"`
}

// imageFlags are those of check image.
type imageFlags struct {
	image, root, output string
	run, grace          time.Duration
}

func imageCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "image [flags] [-- COMMAND [ARGUMENTS]]",
		Short: "Find out what a runner's image does: its entrypoint, log lines and signals",
		Long: `image runs COMMAND, the entrypoint of a runner's image, inside of that image, and
reports whether its log lines and its end are as the scaler expects them. With --root it
only reads the files of an unpacked image. With --image alone it explains how to run it.

` + checkConvention,
		Example: `  runnerctl check image --image docker-public.packages.atlassian.com/sox/atlassian/bitbucket-pipelines-runner
  runnerctl check image --root rootfs -- /opt/atlassian/pipelines/runner/entrypoint.sh`,
	}
	var f imageFlags
	set := command.Flags(c, "RUNNERCTL", lookup)
	set.SetInterspersed(false) // the flags of COMMAND are its own
	set.StringVar(&f.image, "image", "", "`reference` of the image, for the report; without a command, explain how to run it")
	set.StringVar(&f.root, "root", "", "`directory` with the image's unpacked root filesystem: read the command there, do not run it")
	set.Duration(&f.run, "for", time.Minute, time.Nanosecond, "how long to let the command run before SIGTERM; a step that it has may end first")
	set.Duration(&f.grace, "stop-grace", 30*time.Second, time.Nanosecond, "time from SIGTERM to SIGKILL")
	defineOutput(set, &f.output)
	_ = c.MarkFlagDirname("root") // fails for an unknown flag
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		if len(args) == 0 && f.root == "" && f.image == "" {
			set.Fault("command: none given, want: check image [flags] -- COMMAND [ARGUMENTS], or --image, or --root")
		}
		if f.root != "" && len(args) > 1 {
			set.Fault("arguments: %q, want with --root only the entrypoint", args)
		}
		if err := set.Err(); err != nil {
			return err
		}
		return untilInterrupted(c.Context(), func(ctx context.Context) error {
			return f.check(ctx, args, c.OutOrStdout(), c.ErrOrStderr(), styleOf(c.OutOrStdout(), lookup))
		})
	}
	return c
}

func (f imageFlags) check(ctx context.Context, args []string, stdout, stderr io.Writer, style style) (err error) {
	report := imageReport{Image: f.image}
	switch {
	case f.root != "":
		err = report.unpacked(f.root, args)
	case len(args) == 0:
		_, err = fmt.Fprintf(stdout, imagePlan, f.image, entrypoint)
		return err
	default:
		err = report.run(ctx, wrapper.ProbeConfig{Command: args, Run: f.run, StopGrace: f.grace, Output: stderr})
	}
	if err != nil {
		return exit.With(exit.Unclear, fmt.Errorf("check image: %w", err))
	}
	if f.output == "json" {
		err = writeJSON(stdout, report)
	} else {
		err = writeImage(stdout, report, style)
	}
	if err := errors.Join(err, report.outcome()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stderr, "%s: none fails\n", count(len(report.Findings), "fact"))
	return err
}

// unpacked looks at the image's files.
func (r *imageReport) unpacked(root string, args []string) error {
	command := entrypoint
	if len(args) > 0 {
		command = args[0]
	}
	found, err := wrapper.InspectEntrypoint(root, command)
	if err != nil {
		return err
	}
	r.Entrypoint = &found
	finding := probe.Finding{Verdict: probe.Holds, Found: describe(found)}
	switch {
	case len(found.Faults) > 0:
		finding = probe.Finding{Verdict: probe.DoesNotHold, Found: strings.Join(found.Faults, "; ")}
	case found.Path != entrypoint:
		finding = probe.Finding{Verdict: probe.NotSeen, Found: "another was read: " + describe(found)}
	}
	r.Findings = probe.Conclude(probe.LookImage, map[string]probe.Finding{probe.KeyRunnerEntrypoint: finding}, "it was not run")
	return nil
}

// describe says what an entrypoint without faults is.
func describe(found wrapper.Entrypoint) string {
	text := found.Path
	if found.Interpreter != "" {
		hands := "does not hand its process over: signals reach the runner through its process group"
		if found.Execs {
			hands = "hands its process over"
		}
		text += fmt.Sprintf(", a script of %s that %s", found.Interpreter, hands)
	}
	if found.Architecture != "" {
		text += ", " + found.Architecture
	}
	return text
}

// run runs the command.
func (r *imageReport) run(ctx context.Context, config wrapper.ProbeConfig) error {
	trial, err := wrapper.ProbeImage(ctx, config)
	if err != nil {
		return err
	}
	r.Trial = &trial
	started := probe.Finding{Verdict: probe.Holds, Found: "started"}
	if trial.Path != entrypoint {
		started = probe.Finding{Verdict: probe.NotSeen, Found: "another was started: " + trial.Path}
	}
	r.Findings = probe.Conclude(probe.LookImage, map[string]probe.Finding{
		probe.KeyRunnerEntrypoint: started, probe.KeyRunnerLines: lines(trial), probe.KeyRunnerSigterm: ending(trial, config.StopGrace),
	}, "")
	return nil
}

// maxShownLines bounds how many lines one finding lists.
const maxShownLines = 12

// lines says which lines were known. If none was, that proves nothing: without the
// variables of a registered runner it cannot come online.
func lines(trial wrapper.ProbeResult) probe.Finding {
	texts := make([]string, 0, maxShownLines+1)
	for i, line := range trial.Lines {
		if i == maxShownLines {
			texts = append(texts, fmt.Sprintf("and %d more", len(trial.Lines)-i))
			break
		}
		text := fmt.Sprintf("%s after %v", line.Announces, line.After.Round(100*time.Millisecond))
		if line.Step != "" {
			text = fmt.Sprintf("%s %s after %v", line.Announces, line.Step, line.After.Round(100*time.Millisecond))
		}
		texts = append(texts, text)
	}
	found := strings.Join(texts, ", ")
	switch {
	case trial.Unrecognized:
		return probe.Finding{Verdict: probe.DoesNotHold, Found: found + ": that cannot be, so some lines were not recognized"}
	case len(trial.Lines) == 0:
		return probe.Finding{Verdict: probe.NotSeen, Found: fmt.Sprintf("no known line in %v; without the variables of a registered runner it does not come online", trial.Ran.Round(time.Second))}
	}
	if !slices.ContainsFunc(trial.Lines, func(l wrapper.ProbeLine) bool { return l.Announces == "step" }) {
		found += "; it was given no step"
	}
	return probe.Finding{Verdict: probe.Holds, Found: found}
}

// ending says how it ended.
func ending(trial wrapper.ProbeResult, grace time.Duration) probe.Finding {
	took := trial.Stopping.Round(10 * time.Millisecond)
	busy := ", without a step"
	if trial.Busy {
		busy = ", amid a step"
	}
	switch {
	case trial.EndedByItself:
		return probe.Finding{Verdict: probe.NotSeen, Found: fmt.Sprintf("it ended by itself after %v, exit code %d", trial.Ran.Round(100*time.Millisecond), trial.ExitCode)}
	case trial.Killed:
		return probe.Finding{Verdict: probe.DoesNotHold, Found: fmt.Sprintf("it had not ended %v after SIGTERM%s, and was killed", grace, busy)}
	}
	return probe.Finding{Verdict: probe.Holds, Found: fmt.Sprintf("it ended %v after SIGTERM%s, exit code %d", took, busy, trial.ExitCode)}
}

// outcome is the error that the report leads to.
func (r *imageReport) outcome() error {
	var fails, seen int
	for _, finding := range r.Findings {
		switch finding.Verdict {
		case probe.DoesNotHold:
			fails++
		case probe.Holds:
			seen++
		}
	}
	switch {
	case fails > 0:
		return exit.With(exit.Failed, fmt.Errorf("check image: %d of %d facts do not hold", fails, len(r.Findings)))
	case seen == 0 && r.Entrypoint == nil, r.Trial != nil && r.Trial.EndedByItself:
		return exit.With(exit.Unclear, errors.New("check image: it could not be determined"))
	}
	return nil
}

func writeImage(to io.Writer, report imageReport, style style) error {
	var out strings.Builder
	if report.Image != "" {
		out.WriteString(report.Image + "\n\n")
	}
	writeFindings(&out, report.Findings, style)
	_, err := io.WriteString(to, out.String())
	return err
}
