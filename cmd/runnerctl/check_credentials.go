package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// setReport is the report on one credentials set.
type setReport struct {
	Name   string             `json:"name"`
	Source string             `json:"source"`
	Serves credentials.Serves `json:"serves"`
	// FileFaults are those of the set's files, Account what Bitbucket says; nil if the
	// files have no credentials.
	FileFaults []string       `json:"file_faults,omitempty"`
	Account    *probe.Account `json:"account,omitempty"`
}

func (r setReport) wrong() bool {
	return len(r.FileFaults) > 0 || r.Account != nil && len(r.Account.Faults) > 0
}

func (r setReport) unclear() bool { return r.Account != nil && r.Account.Unclear != "" }

func credentialsCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "credentials",
		Short: "Report who each credentials set is, which scopes it has and lacks, and what works",
		Long: `credentials reports who each credentials set is, which scopes it has and lacks, and
what works with it. It changes nothing at Bitbucket.

` + checkConvention,
		Example: `  runnerctl check credentials --credentials-dir DIR --workspace acme
  BITBUCKET_ACCESS_TOKEN=... runnerctl check credentials --workspace acme --repository app -o json`,
	}
	r := &remote{lookup: lookup}
	set := command.Flags(c, "RUNNERCTL", lookup)
	r.define(c, set)
	set.StringVar(&r.set, "credentials", "", "`name` of the one set to check (default: all)")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		set.NoArguments(args)
		r.check(set)
		if err := set.Err(); err != nil {
			return err
		}
		return untilInterrupted(c.Context(), func(ctx context.Context) error {
			return r.checkCredentials(ctx, c.OutOrStdout(), c.ErrOrStderr())
		})
	}
	return c
}

func (r *remote) checkCredentials(ctx context.Context, stdout, stderr io.Writer) error {
	sets, err := r.sets()
	if err != nil {
		return err
	}
	reports := make([]setReport, 0, len(sets))
	var wrong, unclear int
	for _, set := range sets {
		report, err := r.look(ctx, set)
		if err != nil {
			return err
		}
		switch {
		case report.wrong():
			wrong++
		case report.unclear():
			unclear++
		}
		reports = append(reports, report)
	}
	if r.output == "json" {
		err = writeJSON(stdout, map[string]any{"sets": reports})
	} else {
		err = writeSets(stdout, reports, styleOf(stdout, r.lookup))
	}
	switch {
	case err != nil:
		return err
	case wrong > 0:
		return exit.With(exit.Failed, fmt.Errorf("check credentials: something is wrong with %d of %s", wrong, count(len(sets), "set")))
	case unclear > 0:
		return exit.With(exit.Unclear, fmt.Errorf("check credentials: %d of %s could not be checked", unclear, count(len(sets), "set")))
	}
	_, err = fmt.Fprintf(stderr, "%s: all is well\n", count(len(sets), "set"))
	return err
}

func (r *remote) look(ctx context.Context, set credentials.Set) (setReport, error) {
	report := setReport{Name: set.Name, Source: set.Source, Serves: set.Serves, FileFaults: set.Faults}
	if set.Credentials.Kind() == "" {
		return report, nil
	}
	client, err := r.client(set)
	if err != nil {
		return report, err
	}
	defer client.Close()
	scopes := set.Serves.Scopes()
	// A set that serves other workspaces is checked there: that is no fault of it.
	if r.workspace != "" && set.Serves.Allows(r.scope()) {
		scopes = []bitbucket.Scope{r.scope()}
	}
	account := probe.Access(ctx, client, set.Credentials, scopes)
	report.Account = &account
	return report, nil
}

const lineWidth = 100

func writeSets(to io.Writer, reports []setReport, style style) error {
	var out strings.Builder
	line := func(label, format string, args ...any) {
		const indent = "                 "
		_, _ = fmt.Fprintf(&out, "  %s%s\n", style.verdict(fmt.Sprintf("%-15s", label)), wrap(fmt.Sprintf(format, args...), lineWidth, indent))
	}
	for i, report := range reports {
		if i > 0 {
			out.WriteByte('\n')
		}
		_, _ = fmt.Fprintf(&out, "%s (%s)\n", report.Name, report.Source)
		for _, fault := range report.FileFaults {
			line("WRONG", "%s", fault)
		}
		if account := report.Account; account != nil {
			writeAccount(line, *account)
		}
		line("namespaces", "%s", listed(report.Serves.Namespaces, "none"))
		line("workspaces", "%s", listed(report.Serves.Workspaces, "any that Bitbucket gives it"))
		if report.Serves.Repositories != nil {
			line("repositories", "%s", listed(report.Serves.Repositories, "none"))
		}
		if report.Serves.Labels != nil {
			line("labels", "%s", listed(report.Serves.Labels, "none"))
		}
		if report.Account != nil && len(report.Account.Works) == 0 && !report.wrong() && !report.unclear() {
			line("note", "give --workspace, and --repository, to see what works there (or list them in the set's files)")
		}
	}
	_, err := io.WriteString(to, out.String())
	return err
}

func listed(words []string, none string) string {
	if len(words) == 0 {
		return none
	}
	return strings.Join(words, ", ")
}

func writeAccount(line func(label, format string, args ...any), account probe.Account) {
	for _, fault := range account.Faults {
		line("WRONG", "%s", fault)
	}
	if account.Unclear != "" {
		line("UNCLEAR", "%s", account.Unclear)
	}
	kind := string(account.Kind)
	if account.Deprecated {
		kind += ": Atlassian has announced its end, use an API token or an OAuth consumer"
	}
	line("kind", "%s", kind)
	line("who", "%s", account.Who)
	if account.Scopes == nil {
		line("scopes", "Bitbucket does not name them")
	} else {
		line("scopes", "%s", strings.Join(account.Scopes, ", "))
	}
	for _, need := range account.Needs {
		label := map[probe.Has]string{probe.HasYes: "has", probe.HasNo: "lacks", probe.HasUnknown: "has perhaps"}[need.Has]
		optional := ""
		if !need.Required {
			optional = " (only needed for that)"
		}
		line(label, "%s: for %s%s", need.Scope, need.For, optional)
	}
	for _, work := range account.Works {
		label := "works"
		if !work.OK {
			label = "does not work"
		}
		line(label, "%s: %s: %s", work.Scope, work.What, work.Said)
	}
	line("hourly calls", "%s", hourly(account.Hourly))
}

func hourly(h probe.Hourly) string {
	limit := fmt.Sprintf("Bitbucket names no limit, %d are assumed, and it does not say how many are left", bitbucket.DefaultBudget)
	if h.Limit > 0 {
		limit = fmt.Sprintf("the limit is %d, more than a fifth of it is left", h.Limit)
		if h.Near {
			limit = fmt.Sprintf("the limit is %d, a fifth of it or less is left", h.Limit)
		}
	}
	if h.Exhausted {
		limit = "used up for now"
	}
	return fmt.Sprintf("%s; this check made %d", limit, h.Calls)
}
