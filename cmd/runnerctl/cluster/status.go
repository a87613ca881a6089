package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/status/api"
)

// Painter paints words for a terminal.
type Painter interface {
	Bad(text string) string
	Warn(text string) string
}

// Settings are what the commands share with the program that has them.
type Settings struct {
	// Lookup finds an environment variable.
	Lookup func(name string) (value string, ok bool)
	// Paint returns the painter of an output.
	Paint func(to io.Writer) Painter
	// UntilInterrupted runs something until the user interrupts it.
	UntilInterrupted func(ctx context.Context, run func(ctx context.Context) error) error
}

// Commands are the commands about a running installation.
func Commands(s Settings) []*cobra.Command {
	return []*cobra.Command{statusCommand(s), explainCommand(s), logsCommand(s), drainCommand(s)}
}

const convention = `The scaler is asked through the proxy of the API server, by the current context of the
kubeconfig, or at --address. For the proxy you need the right to get services/proxy in
the namespace of the scaler: see docs/operate.md.

Each flag may be given as an environment variable too: RUNNERCTL_SCALER for --scaler.
Flags win.`

type statusFlags struct {
	target
	watch bool
}

// state is all that status shows.
type state struct {
	Installation api.Installation `json:"installation"`
	Groups       []api.Group      `json:"groups"`
}

func statusCommand(s Settings) *cobra.Command {
	c := &cobra.Command{
		Use:   "status [NAMESPACE/GROUP]",
		Short: "Show the runner groups of a cluster, problems first",
		Long: `status shows what is wrong, and a table of the runner groups: how many runners are
online, busy and starting, how many steps wait, how many runners are wanted, and why.

` + convention,
		Example: `  runnerctl status
  runnerctl status --watch
  runnerctl status builds/linux -o yaml
  kubectl bitbucket-runners status -o wide`,
	}
	f := &statusFlags{}
	set := command.Flags(c, "RUNNERCTL", s.Lookup)
	f.define(set, "table", "wide", "json", "yaml")
	set.Bool(&f.watch, "watch", "w", "show it again at each change, until it is interrupted")
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		f.check(set)
		if len(args) > 1 {
			set.Fault("%d arguments, want at most one NAMESPACE/GROUP", len(args))
		}
		if err := set.Err(); err != nil {
			return err
		}
		return s.UntilInterrupted(c.Context(), func(ctx context.Context) error {
			return f.run(ctx, args, c.OutOrStdout(), s.Paint(c.OutOrStdout()))
		})
	}
	return c
}

func (f *statusFlags) run(ctx context.Context, args []string, stdout io.Writer, paint Painter) error {
	client, err := f.open()
	if err != nil {
		return err
	}
	only := ""
	if len(args) > 0 {
		if only, err = f.groupKey(args[0]); err != nil {
			return err
		}
	}
	show := func() error {
		seen, err := f.look(ctx, client, only)
		if err != nil {
			return err
		}
		return f.write(stdout, seen, paint)
	}
	if err := show(); err != nil || !f.watch {
		return err
	}
	first := true
	return client.watch(ctx, "/groups", func([]byte) error {
		if first { // it was shown
			first = false
			return nil
		}
		if _, err := fmt.Fprintln(stdout, "---", time.Now().Format(time.TimeOnly)); err != nil {
			return err
		}
		return show()
	})
}

func (f *statusFlags) look(ctx context.Context, client *client, only string) (seen state, err error) {
	var groups api.Items[api.Group]
	if err := client.get(ctx, "/installation", &seen.Installation); err != nil {
		return seen, err
	}
	if err := client.get(ctx, "/groups", &groups); err != nil {
		return seen, err
	}
	inNamespace := f.namespace
	if only != "" {
		inNamespace = "" // its name says which
	}
	seen.Groups = slices.DeleteFunc(groups.Items, func(g api.Group) bool {
		return inNamespace != "" && g.Namespace != inNamespace || only != "" && g.Key() != only
	})
	if only != "" && len(seen.Groups) == 0 {
		return seen, client.get(ctx, "/groups/"+only, &api.Group{}) // it says which groups there are
	}
	seen.Installation.Problems = slices.DeleteFunc(seen.Installation.Problems, func(p api.Problem) bool {
		namespace, _, _ := strings.Cut(p.Group, "/")
		return p.Group != "" && (inNamespace != "" && namespace != inNamespace || only != "" && p.Group != only)
	})
	return seen, nil
}

// groupKey completes the name of a group by the namespace.
func (t *target) groupKey(given string) (string, error) {
	if strings.Count(given, "/") == 1 && !strings.HasPrefix(given, "/") && !strings.HasSuffix(given, "/") {
		return given, nil
	}
	if given == "" || strings.Contains(given, "/") {
		return "", exit.Usage(fmt.Errorf("%q, want NAMESPACE/GROUP, or GROUP with --namespace", given))
	}
	namespace := t.namespace
	if namespace == "" {
		var err error
		if namespace, _, err = t.loader().Namespace(); err != nil {
			return "", exit.Usage(fmt.Errorf("%q: want NAMESPACE/GROUP, or GROUP with --namespace: %w", given, err))
		}
	}
	return namespace + "/" + given, nil
}

func (f *statusFlags) write(to io.Writer, seen state, paint Painter) error {
	switch f.output {
	case "json":
		return writeJSON(to, seen)
	case "yaml":
		return writeYAML(to, seen)
	}
	if err := writeProblems(to, seen.Installation.Problems, paint); err != nil {
		return err
	}
	if len(seen.Groups) == 0 && f.namespace != "" {
		_, err := fmt.Fprintf(to, "No runner groups in namespace %q.\n", f.namespace)
		return err
	}
	if len(seen.Groups) == 0 {
		_, err := fmt.Fprintln(to, "No runner groups: no ScaledJob names this scaler.")
		return err
	}
	if err := writeGroups(to, seen.Groups, f.output == "wide"); err != nil {
		return err
	}
	var rest []string
	for _, c := range seen.Installation.Credentials {
		left := fmt.Sprintf("%s: %d of %d calls left in this hour", c.Name, c.Remaining, c.Limit)
		if c.Stretch > 1.05 {
			left += fmt.Sprintf(", lists stretched by %.1f", c.Stretch)
		}
		rest = append(rest, left)
	}
	leader := "One replica"
	if seen.Installation.Leader != "" {
		leader = "Leader " + seen.Installation.Leader
	}
	_, err := fmt.Fprintf(to, "\nCredentials %s. %s, version %s.\n", cmp.Or(strings.Join(rest, "; "), "none in use"), leader, cmp.Or(seen.Installation.Version, "not known"))
	return err
}

func writeProblems(to io.Writer, problems []api.Problem, paint Painter) error {
	var b strings.Builder
	for _, p := range problems {
		word := string(p.Severity)
		switch p.Severity {
		case api.SeverityError:
			word = paint.Bad(word)
		case api.SeverityWarning:
			word = paint.Warn(word)
		case api.SeverityInfo:
		}
		about := p.Kind
		if p.Group != "" {
			about = p.Group + " " + p.Kind
		}
		fmt.Fprintf(&b, "%s  %s%s: %s\n", word, about, since(p.Since), p.Message)
		if p.Remedy != "" {
			fmt.Fprintf(&b, "         %s\n", p.Remedy)
		}
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// since says for how long something has lasted.
func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return " for " + short(time.Since(*t))
}

// short shows a duration as Kubernetes' tools do.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func writeGroups(to io.Writer, groups []api.Group, wide bool) error {
	slices.SortStableFunc(groups, func(a, b api.Group) int { return cmp.Compare(a.Worst(), b.Worst()) })
	table := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	head := "GROUP\tONLINE\tBUSY\tSTARTING\tQUEUED\tWANTED\tMIN\tMAX\tREASON"
	if wide {
		head += "\tSTRATEGY\tSCOPE\tLABELS\tCREDENTIALS\tNOTE"
	}
	_, _ = fmt.Fprintln(table, head) // Flush reports errors
	for _, g := range groups {
		queued, wanted, reason, note := "-", "-", "no decision", g.Error
		if g.Queue != nil {
			queued = fmt.Sprint(g.Queue.Queued)
			if g.Queue.Predicted > 0 {
				queued += fmt.Sprintf("+%d", g.Queue.Predicted)
			}
			if g.Queue.Unknown != "" {
				queued += "?"
			}
		}
		if d := g.Decision; d != nil && g.Error == "" {
			wanted, reason, note = fmt.Sprint(d.Effective), d.Reason, d.Note
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\t%s\t%d\t%d\t%s", g.Key(), g.Online(), g.Runners["busy"]+g.Runners["draining busy"],
			g.Runners["pending"]+g.Runners["starting"], queued, wanted, g.Min, g.Max, reason)
		if wide {
			_, _ = fmt.Fprintf(table, "\t%s\t%s\t%s\t%s\t%s", g.Strategy, g.Scope, strings.Join(g.Labels, ","), g.Credentials, note)
		}
		_, _ = fmt.Fprintln(table)
	}
	return table.Flush()
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

func writeYAML(to io.Writer, value any) error {
	out, err := yaml.Marshal(value)
	if err == nil {
		_, err = to.Write(out)
	}
	return err
}
