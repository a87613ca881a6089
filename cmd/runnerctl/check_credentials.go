package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/probe"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// setReport is what is told of one credentials set.
type setReport struct {
	Name   string             `json:"name"`
	Source string             `json:"source"`
	Serves credentials.Serves `json:"serves"`
	// FileFaults are those of the set's files, Account what Bitbucket says; nil where
	// the files do not give credentials.
	FileFaults []string       `json:"file_faults,omitempty"`
	Account    *probe.Account `json:"account,omitempty"`
}

// wrong and unclear tell how it stands with the set.
func (r setReport) wrong() bool {
	return len(r.FileFaults) > 0 || r.Account != nil && len(r.Account.Faults) > 0
}

func (r setReport) unclear() bool { return r.Account != nil && r.Account.Unclear != "" }

func checkCredentials(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) error {
	r := remote{lookup: lookup}
	set := flags.New("runnerctl check credentials", "RUNNERCTL", stderr)
	r.define(set)
	set.StringVar(&r.set, "credentials", "", "`name` of the one set to look at (default: all)")
	if err := parse(set, args, func() { set.NoArguments(); r.read(set) }); err != nil {
		return err
	}
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
		err = writeSets(stdout, reports)
	}
	switch {
	case err != nil:
		return err
	case wrong > 0:
		return &exitError{fmt.Errorf("check credentials: something is wrong with %d of %d sets", wrong, len(sets)), exitWrong}
	case unclear > 0:
		return &exitError{fmt.Errorf("check credentials: it could not be told of %d of %d sets", unclear, len(sets)), exitUnclear}
	}
	return nil
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
	// A set of other workspaces is looked at there, which is no fault of it.
	if r.workspace != "" && set.Serves.Allows(r.scope()) {
		scopes = []bitbucket.Scope{r.scope()}
	}
	account := probe.Access(ctx, client, set.Credentials, scopes)
	report.Account = &account
	return report, nil
}

const lineWidth = 100

func writeSets(to io.Writer, reports []setReport) error {
	var out strings.Builder
	line := func(label, format string, args ...any) {
		const indent = "                 "
		_, _ = fmt.Fprintf(&out, "  %-15s%s\n", label, wrap(fmt.Sprintf(format, args...), lineWidth, indent))
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
		line("NOT TOLD", "%s", account.Unclear)
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
	limit := fmt.Sprintf("Bitbucket names no limit, %d are assumed, and none tells what is left", bitbucket.DefaultBudget)
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
