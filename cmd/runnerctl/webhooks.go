package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/webhooks"
	"bitbucket-runner-scaler/cmd/internal/command"
	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// webhookDescription is how our webhooks are called in Bitbucket's settings.
const webhookDescription = "bitbucket-runner-scaler"

const webhooksConvention = `Without --yes, ensure and remove only say what they would do. The credentials need the
right to manage webhooks, which the scaler itself does not need: the scope webhook of an
OAuth consumer or an access token, or read:webhook:bitbucket, write:webhook:bitbucket and
delete:webhook:bitbucket of an API token.

Each flag may be given as an environment variable too: RUNNERCTL_WORKSPACE for
--workspace. Flags win.

Exit codes: 0 success, or nothing to do; 1 Bitbucket refused; 2 wrong command line or it
could not be determined.`

func webhooksCommand(lookup lookup) *cobra.Command {
	c := &cobra.Command{
		Use:   "webhooks",
		Short: "Set up the webhooks at Bitbucket that tell the scaler of new work",
		Long: `webhooks creates, lists and removes the webhooks of a workspace, or with --repository of
one repository.

` + webhooksConvention,
		Example: `  runnerctl webhooks ensure --workspace acme --url https://runners.example.com/webhooks/bitbucket --secret-file webhook.secret
  runnerctl webhooks list --workspace acme`,
	}
	command.Group(c, "")
	c.AddCommand(webhooksEnsureCommand(lookup), webhooksListCommand(lookup), webhooksRemoveCommand(lookup))
	return c
}

// webhookFlags are those that all commands about webhooks have.
type webhookFlags struct {
	remote
	address, description string
	yes                  bool
	// described reports whether --description was given, so that a webhook may be found by it.
	described bool
}

// newWebhookCommand completes a command about webhooks, which run carries out.
func newWebhookCommand(c *cobra.Command, f *webhookFlags, define func(*flags.Set), check func(*flags.Set), run func(context.Context, *bitbucket.Client, io.Writer) error) *cobra.Command {
	c.Long += "\n\n" + webhooksConvention
	set := command.Flags(c, "RUNNERCTL", f.lookup)
	f.define(c, set)
	set.StringVar(&f.set, "credentials", credentials.Default, "`name` of the credentials set that has the right to manage webhooks")
	define(set)
	c.RunE = func(c *cobra.Command, args []string) error {
		set.Read()
		command.CheckEnvironment(c, set)
		set.NoArguments(args)
		f.check(set)
		if f.workspace == "" {
			set.Fault("--workspace: missing, want a slug or {uuid}")
		}
		f.described = set.Changed("description")
		check(set)
		if err := set.Err(); err != nil {
			return err
		}
		return untilInterrupted(c.Context(), func(ctx context.Context) error {
			sets, err := f.sets()
			if err != nil {
				return err
			}
			chosen := sets[0]
			if chosen.Credentials.Kind() == "" {
				return exit.With(exit.Unclear, fmt.Errorf("credentials set %s: %s", chosen.Name, strings.Join(chosen.Faults, "; ")))
			}
			client, err := f.client(chosen)
			if err != nil {
				return err
			}
			defer client.Close()
			return explained(run(ctx, client, c.OutOrStdout()))
		})
	}
	return c
}

// defineTarget defines the flags that say which webhook is meant.
func (f *webhookFlags) defineTarget(set *flags.Set) {
	set.StringVar(&f.address, "url", "", "`URL` at which Bitbucket reaches the scaler, with the path /webhooks/bitbucket")
	set.StringVar(&f.description, "description", webhookDescription, "`text` that names the webhook in Bitbucket's settings; if it is given, the webhook is also found by it, so that its URL may change")
	set.Bool(&f.yes, "yes", "", "do it; without it this only says what it would do")
}

func (f *webhookFlags) checkURL(set *flags.Set) {
	if u, err := url.Parse(f.address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		set.Fault("--url: %q, want https://HOST/webhooks/bitbucket", f.address)
	}
}

// find returns the webhook that is meant: the one with the URL, or else the only one with
// the description if that was given.
func (f *webhookFlags) find(hooks []webhooks.Hook) (webhooks.Hook, bool, error) {
	same := slices.DeleteFunc(slices.Clone(hooks), func(h webhooks.Hook) bool { return h.URL != f.address })
	if len(same) == 0 && f.described {
		same = slices.DeleteFunc(slices.Clone(hooks), func(h webhooks.Hook) bool { return h.Description != f.description })
	}
	switch len(same) {
	case 0:
		return webhooks.Hook{}, false, nil
	case 1:
		return same[0], true, nil
	}
	names := make([]string, 0, len(same))
	for _, h := range same {
		names = append(names, h.UUID)
	}
	return webhooks.Hook{}, false, exit.With(exit.Unclear, fmt.Errorf("%d webhooks of %s are meant, want one: %s: remove the others in Bitbucket's settings", len(same), f.scope(), strings.Join(names, ", ")))
}

// explained adds to an error about a missing scope what to do.
func explained(err error) error {
	if errors.Is(err, bitbucket.ErrMissingScope) {
		return fmt.Errorf("%w: give the credentials the right to manage webhooks, or use others for this command: see runnerctl webhooks --help", err)
	}
	return err
}

func webhooksListCommand(lookup lookup) *cobra.Command {
	f := &webhookFlags{remote: remote{lookup: lookup}}
	return newWebhookCommand(&cobra.Command{
		Use: "list", Short: "List the webhooks of a workspace or a repository",
		Long:    "list prints all webhooks of a workspace, or with --repository of one repository.",
		Example: "  runnerctl webhooks list --workspace acme --repository app",
	}, f, func(*flags.Set) {}, func(*flags.Set) {}, func(ctx context.Context, client *bitbucket.Client, stdout io.Writer) error {
		hooks, err := webhooks.List(ctx, client, f.scope())
		if err != nil {
			return err
		}
		if f.output == "json" {
			return writeJSON(stdout, map[string]any{"webhooks": append([]webhooks.Hook{}, hooks...)})
		}
		var out strings.Builder
		for _, h := range hooks {
			writeHook(&out, h)
		}
		_, _ = fmt.Fprintf(&out, "%s has %s\n", f.scope(), count(len(hooks), "webhook"))
		_, err = io.WriteString(stdout, out.String())
		return err
	})
}

func writeHook(out *strings.Builder, h webhooks.Hook) {
	state := "active"
	if !h.Active {
		state = "NOT ACTIVE"
	}
	if h.SecretSet != nil && !*h.SecretSet {
		state += ", WITHOUT A SECRET, so the scaler refuses what it sends"
	}
	_, _ = fmt.Fprintf(out, "%s\n  url          %s\n  description  %s\n  events       %s\n  state        %s\n",
		h.UUID, h.URL, h.Description, wrap(strings.Join(h.Events, ", "), lineWidth, "               "), state)
}

func webhooksRemoveCommand(lookup lookup) *cobra.Command {
	f := &webhookFlags{remote: remote{lookup: lookup}}
	return newWebhookCommand(&cobra.Command{
		Use: "remove", Short: "Remove a webhook of a workspace or a repository",
		Long:    "remove removes the webhook with the URL. Other webhooks are left alone.",
		Example: "  runnerctl webhooks remove --workspace acme --url https://runners.example.com/webhooks/bitbucket --yes",
	}, f, f.defineTarget, func(set *flags.Set) {
		if f.address != "" || !f.described {
			f.checkURL(set)
		}
	}, func(ctx context.Context, client *bitbucket.Client, stdout io.Writer) error {
		hooks, err := webhooks.List(ctx, client, f.scope())
		if err != nil {
			return err
		}
		hook, found, err := f.find(hooks)
		report := webhookReport{Action: "none", Done: true}
		if found {
			report = webhookReport{Action: "remove", Done: f.yes, Webhook: &hook}
		}
		if err == nil && found && f.yes {
			err = webhooks.Delete(ctx, client, f.scope(), hook.UUID)
		}
		if err != nil {
			return err
		}
		return f.write(stdout, report, "")
	})
}

// webhookReport is what a command did to a webhook, or would do.
type webhookReport struct {
	// Action is create, change, remove or none.
	Action  string         `json:"action"`
	Done    bool           `json:"done"`
	Webhook *webhooks.Hook `json:"webhook,omitempty"`
	// Changes say what differs.
	Changes []string `json:"changes,omitempty"`
	// Notes are what the user should know.
	Notes []string `json:"notes,omitempty"`
}

// write prints a report, and what to do next if the action was carried out.
func (f *webhookFlags) write(to io.Writer, r webhookReport, next string) error {
	if f.output == "json" {
		return writeJSON(to, r)
	}
	var out strings.Builder
	switch r.Action {
	case "none":
		_, _ = fmt.Fprintf(&out, "%s: nothing to do\n", f.scope())
	default:
		verb := map[bool]map[string]string{
			true:  {"create": "created", "change": "changed", "remove": "removed"},
			false: {"create": "would create", "change": "would change", "remove": "would remove"},
		}[r.Done][r.Action]
		_, _ = fmt.Fprintf(&out, "%s: %s the webhook %s\n", f.scope(), verb, r.Webhook.URL)
	}
	for _, change := range r.Changes {
		_, _ = fmt.Fprintf(&out, "  %s\n", change)
	}
	for _, note := range r.Notes {
		_, _ = fmt.Fprintf(&out, "note: %s\n", note)
	}
	if !r.Done {
		out.WriteString("Nothing was done. Add --yes to do it.\n")
	} else if r.Action != "none" {
		out.WriteString(next)
	}
	_, err := io.WriteString(to, out.String())
	return err
}
