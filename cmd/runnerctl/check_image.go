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

	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/jobfactory/sidecar/wrapper"
)

// entrypoint is that of Atlassian's image.
const entrypoint = "/opt/atlassian/pipelines/runner/entrypoint.sh"

const imagePlan = `The image must be run, or unpacked; runnerctl does neither. It must be built
statically (CGO_ENABLED=0) to run inside of the image. With Docker, to run it:

  docker run --rm --volume "$PWD/runnerctl:/runnerctl:ro" --entrypoint /runnerctl \
    %[1]s check image -- %[2]s

With the variables of a registered runner (ACCOUNT_UUID, RUNNER_UUID, OAUTH_CLIENT_ID,
OAUTH_CLIENT_SECRET, WORKING_DIRECTORY, RUNTIME_PREREQUISITES_ENABLED) as --env, it
comes online and its lines show. To look at its files alone:

  docker export "$(docker create %[1]s)" | tar --extract --directory rootfs
  runnerctl check image --root rootfs -- %[2]s
`

// imageReport is what is told of an image.
type imageReport struct {
	Image      string               `json:"image,omitempty"`
	Entrypoint *wrapper.Entrypoint  `json:"entrypoint,omitempty"`
	Trial      *wrapper.ProbeResult `json:"trial,omitempty"`
	Findings   []probe.Finding      `json:"findings"`
}

func checkImage(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set := flags.New("runnerctl check image", "RUNNERCTL", stderr)
	var image, root, output string
	var run, grace time.Duration
	set.StringVar(&image, "image", "", "`reference` of the image, for the report; without a command, how to run it is said")
	set.StringVar(&root, "root", "", "`directory` with the image's unpacked root filesystem: the command is looked at there, not run")
	set.Duration(&run, "for", time.Minute, time.Nanosecond, "how long to let the command run before SIGTERM; a step that it has is waited for")
	set.Duration(&grace, "stop-grace", 30*time.Second, time.Nanosecond, "time from SIGTERM to SIGKILL")
	defineOutput(set, &output)
	err := parse(set, args, func() {
		checkOutput(set, output)
		if set.NArg() == 0 && root == "" && image == "" {
			set.Fault("command: none given, want: check image [flags] -- COMMAND [ARGUMENTS], or --image, or --root")
		}
		if root != "" && set.NArg() > 1 {
			set.Fault("arguments: %q, want with --root the entrypoint alone", set.Args())
		}
	})
	if err != nil {
		return err
	}
	report := imageReport{Image: image}
	switch {
	case root != "":
		err = report.unpacked(root, set.Args())
	case set.NArg() == 0:
		_, err = fmt.Fprintf(stdout, imagePlan, image, entrypoint)
		return err
	default:
		err = report.run(ctx, wrapper.ProbeConfig{Command: set.Args(), Run: run, StopGrace: grace, Output: stderr})
	}
	if err != nil {
		return fmt.Errorf("check image: %w", err)
	}
	if output == "json" {
		err = writeJSON(stdout, report)
	} else {
		err = writeImage(stdout, report)
	}
	return errors.Join(err, report.outcome())
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
		finding = probe.Finding{Verdict: probe.NotSeen, Found: "another was looked at: " + describe(found)}
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

// maxShownLines bounds what is said of the lines in one finding.
const maxShownLines = 12

// lines says which lines were known. That none was is no proof: without a registered
// runner's variables it cannot come online.
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

// outcome is the error that the report ends in.
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
		return &exitError{fmt.Errorf("check image: %d of %d facts do not hold", fails, len(r.Findings)), exitWrong}
	case seen == 0 && r.Entrypoint == nil, r.Trial != nil && r.Trial.EndedByItself:
		return &exitError{errors.New("check image: it could not be told"), exitUnclear}
	}
	return nil
}

func writeImage(to io.Writer, report imageReport) error {
	var out strings.Builder
	if report.Image != "" {
		out.WriteString(report.Image + "\n\n")
	}
	writeFindings(&out, report.Findings)
	_, err := io.WriteString(to, out.String())
	return err
}
