package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

const livePlan = `With --yes this would, in %s, with the credentials set %q (%s):

  - list the runners that are there, by the public and by the internal route;
  - register one runner, %s<random>, with the labels self.hosted,
    linux and runnerctl.check.<random>, which no step asks for; it never connects,
    and takes one of the 100 places of the scope for about a minute;
  - read it, disable and enable it, and try to change it, by each route;
%s  - delete it, and look that it is gone; also when it is interrupted.

It makes about %d calls of the hour's %d, and touches no other runner.
Nothing was done.
`

func checkLive(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) error {
	r := remote{lookup: lookup}
	set := flags.New("runnerctl check live", "RUNNERCTL", stderr)
	r.define(set)
	set.StringVar(&r.set, "credentials", credentials.Default, "`name` of the credentials set")
	var yes, refusals bool
	var settle time.Duration
	set.BoolVar(&yes, "yes", false, "do it; without it this only says what it would do")
	set.BoolVar(&refusals, "refusals", false, "try registrations too that Bitbucket should refuse (a second runner of the same name or UUID, a name over 50 characters, 11 custom labels); each that it accepts is one more runner, deleted at once")
	set.Duration(&settle, "write-settle", 30*time.Second, time.Nanosecond, "how long to wait until a write shows, as the scaler's")
	err := parse(set, args, func() {
		set.NoArguments()
		r.read(set)
		if r.workspace == "" {
			set.Fault("--workspace: missing, want a slug or {uuid}")
		}
	})
	if err != nil {
		return err
	}
	sets, err := r.sets()
	if err != nil {
		return err
	}
	chosen := sets[0]
	if chosen.Credentials.Kind() == "" {
		return fmt.Errorf("check live: credentials set %s: %s", chosen.Name, strings.Join(chosen.Faults, "; "))
	}
	if !yes {
		return writePlan(stdout, r, chosen, refusals)
	}
	client, err := r.client(chosen)
	if err != nil {
		return err
	}
	defer client.Close()
	report, err := probe.Live(ctx, probe.Config{
		Client: client, Kind: chosen.Credentials.Kind(), Scope: r.scope(), Refusals: refusals, Settle: settle,
		Progress: func(text string) { _, _ = fmt.Fprintln(stderr, "runnerctl:", text) },
	})
	if err != nil {
		return err
	}
	if r.output == "json" {
		err = writeJSON(stdout, report)
	} else {
		err = writeLive(stdout, report)
	}
	return errors.Join(err, liveOutcome(report))
}

// liveOutcome is the error that a report ends in; nil where all that was seen holds.
func liveOutcome(report probe.Report) error {
	fails := report.Count(probe.DoesNotHold)
	switch {
	case len(report.Left) > 0:
		return &exitError{fmt.Errorf("check live: NOT CLEANED UP: delete by hand: %s", strings.Join(report.Left, "; ")), exitUnclear}
	case report.Stopped != "":
		return &exitError{fmt.Errorf("check live: %s", report.Stopped), exitUnclear}
	case fails > 0:
		return &exitError{fmt.Errorf("check live: %d of %d facts do not hold", fails, len(report.Findings)), exitWrong}
	}
	return nil
}

func writePlan(to io.Writer, r remote, set credentials.Set, refusals bool) error {
	further, calls := "", 25
	if refusals {
		further, calls = "  - try to register four more that Bitbucket should refuse, and delete those that\n    it accepts;\n", 35
	}
	_, err := fmt.Fprintf(to, livePlan, r.scope(), set.Name, set.Credentials.Kind(), probe.NamePrefix, further, calls, 1000)
	return err
}

// writeFindings writes a table: the verdict, and beside it the fact, what was found,
// and what the scaler does about it.
func writeFindings(out *strings.Builder, findings []probe.Finding) {
	const column = 19
	row := func(first, text string) {
		_, _ = fmt.Fprintf(out, "%-*s%s\n", column, first, wrap(text, lineWidth, strings.Repeat(" ", column+2)))
	}
	for _, finding := range findings {
		row(strings.ToUpper(string(finding.Verdict)), finding.Claim)
		row("", "found: "+finding.Found)
		row("", "the scaler: "+finding.Scaler)
	}
}

func writeLive(to io.Writer, report probe.Report) error {
	var out strings.Builder
	_, _ = fmt.Fprintf(&out, "%s, %s, %d calls, %v\n\n", scopeText(report), report.Credentials, report.Calls, report.Took.Round(100*time.Millisecond))
	writeFindings(&out, report.Findings)
	_, _ = fmt.Fprintf(&out, "\n%d hold, %d do not, %d could not be seen\n", report.Count(probe.Holds), report.Count(probe.DoesNotHold), report.Count(probe.NotSeen))
	for _, earlier := range report.Earlier {
		_, _ = fmt.Fprintf(&out, "note: a runner of another look is there, and was left alone: %s\n", earlier)
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
