package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

const livePlan = `With --yes this would, in %s, with the credentials set %q (%s):

  - list the runners that are there, by the public and by the internal route;
  - register one runner, %s<random>, with the labels self.hosted,
    linux and runnerctl.check.<random>, which no step asks for; it never connects,
    and takes one of the 100 places of the scope for about a minute;
  - read it, disable and enable it, and try to change it, by each route;
%s  - delete it, and check that it is gone; also if it is interrupted.

It makes about %d of the hour's %d calls, and touches no other runner.
Nothing was done.
`

// liveFlags are those of check live.
type liveFlags struct {
	remote
	yes, refusals bool
	settle        time.Duration
}

func liveCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "live",
		Short: "Find out what Bitbucket Cloud really does, with one throw-away runner",
		Long: `live registers one throw-away runner that no step asks for, tries with it what the
scaler assumes of Bitbucket Cloud, and deletes it, also if it is interrupted. Without
--yes it only says what it would do.

` + checkConvention,
		Example: `  runnerctl check live --workspace acme          # says what it would do
  runnerctl check live --workspace acme --yes`,
	}
	f := &liveFlags{remote: remote{lookup: lookup}}
	set := command.Flags(c, "RUNNERCTL", lookup)
	f.define(c, set)
	set.StringVar(&f.set, "credentials", credentials.Default, "`name` of the credentials set")
	set.Bool(&f.yes, "yes", "", "do it; without it this only says what it would do")
	set.Bool(&f.refusals, "refusals", "", "try registrations too that Bitbucket should refuse (a second runner of the same name or UUID, a name over 50 characters, 11 custom labels); each that it accepts is one more runner, deleted at once")
	set.Duration(&f.settle, "write-settle", 30*time.Second, time.Nanosecond, "how long to wait until a write shows, as the scaler's")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		set.NoArguments(args)
		f.check(set)
		if f.workspace == "" {
			set.Fault("--workspace: missing, want a slug or {uuid}")
		}
		if err := set.Err(); err != nil {
			return err
		}
		return untilInterrupted(c.Context(), func(ctx context.Context) error {
			return f.checkLive(ctx, c.OutOrStdout(), c.ErrOrStderr())
		})
	}
	return c
}

func (f *liveFlags) checkLive(ctx context.Context, stdout, stderr io.Writer) error {
	sets, err := f.sets()
	if err != nil {
		return err
	}
	chosen := sets[0]
	if chosen.Credentials.Kind() == "" {
		return exit.With(exit.Unclear, fmt.Errorf("check live: credentials set %s: %s", chosen.Name, strings.Join(chosen.Faults, "; ")))
	}
	if !f.yes {
		return f.writePlan(stdout, chosen)
	}
	client, err := f.client(chosen)
	if err != nil {
		return err
	}
	defer client.Close()
	report, err := probe.Live(ctx, probe.Config{
		Client: client, Kind: chosen.Credentials.Kind(), Scope: f.scope(), Refusals: f.refusals, Settle: f.settle,
		Progress: func(text string) { _, _ = fmt.Fprintln(stderr, "runnerctl:", text) },
	})
	if err != nil {
		return err
	}
	if f.output == "json" {
		err = writeJSON(stdout, report)
	} else {
		err = writeLive(stdout, report, styleOf(stdout, f.lookup))
	}
	return errors.Join(err, liveOutcome(report))
}

// liveOutcome is the error that a report leads to; nil if all that was seen holds.
func liveOutcome(report probe.Report) error {
	fails := report.Count(probe.DoesNotHold)
	switch {
	case len(report.Left) > 0:
		return exit.With(exit.Unclear, fmt.Errorf("check live: NOT CLEANED UP: delete by hand: %s", strings.Join(report.Left, "; ")))
	case report.Stopped != "":
		return exit.With(exit.Unclear, fmt.Errorf("check live: %s", report.Stopped))
	case fails > 0:
		return exit.With(exit.Failed, fmt.Errorf("check live: %d of %d facts do not hold", fails, len(report.Findings)))
	}
	return nil
}

func (f *liveFlags) writePlan(to io.Writer, set credentials.Set) error {
	further, calls := "", 25
	if f.refusals {
		further, calls = "  - try to register four more that Bitbucket should refuse, and delete those that\n    it accepts;\n", 35
	}
	_, err := fmt.Fprintf(to, livePlan, f.scope(), set.Name, set.Credentials.Kind(), probe.NamePrefix, further, calls, 1000)
	return err
}

// writeFindings writes a table: the verdict, and beside it the fact, what was found,
// and what the scaler does about it.
func writeFindings(out *strings.Builder, findings []probe.Finding, style style) {
	const column = 19
	row := func(first, text string) {
		_, _ = fmt.Fprintf(out, "%s%s\n", style.verdict(fmt.Sprintf("%-*s", column, first)), wrap(text, lineWidth, strings.Repeat(" ", column+2)))
	}
	for _, finding := range findings {
		row(strings.ToUpper(string(finding.Verdict)), finding.Claim)
		row("", "found: "+finding.Found)
		row("", "the scaler: "+finding.Scaler)
	}
}

func writeLive(to io.Writer, report probe.Report, style style) error {
	var out strings.Builder
	_, _ = fmt.Fprintf(&out, "%s, %s, %d calls, %v\n\n", scopeText(report), report.Credentials, report.Calls, report.Took.Round(100*time.Millisecond))
	writeFindings(&out, report.Findings, style)
	_, _ = fmt.Fprintf(&out, "\n%d hold, %d do not, %d could not be seen\n", report.Count(probe.Holds), report.Count(probe.DoesNotHold), report.Count(probe.NotSeen))
	for _, earlier := range report.Earlier {
		_, _ = fmt.Fprintf(&out, "note: a runner of another check is there, and was left alone: %s\n", earlier)
	}
	if len(report.Left) == 0 {
		_, _ = fmt.Fprintln(&out, "nothing was left behind")
	}
	for _, left := range report.Left {
		_, _ = fmt.Fprintf(&out, "LEFT BEHIND, delete it by hand: %s\n", left)
	}
	_, err := io.WriteString(to, out.String())
	return err
}

func scopeText(report probe.Report) string {
	if report.Repository == "" {
		return report.Workspace
	}
	return report.Workspace + "/" + report.Repository
}
