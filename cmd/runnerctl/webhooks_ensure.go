package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/bitbucket/webhooks"
	"bitbucket-runner-scaler/cmd/internal/flags"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

const ensureAbout = `ensure creates the webhook with the URL, or changes the one that exists if its events, its
description or its state differ. A second run changes nothing.

A new webhook gets the secret of --secret-file. If that file does not exist, a random
secret is written to it, readable by you alone. The secret is never printed, and Bitbucket
never shows it: give it to the scaler from the file, with the command that ensure prints.

To replace the secret, give the scaler the new one beside the old one first, as the key
webhookSecret beside webhookSecretPrevious; then run ensure with --rotate.`

// secretBytes is how many random bytes a generated secret has.
const secretBytes = 32

// ensureFlags are those of webhooks ensure.
type ensureFlags struct {
	webhookFlags
	events     []string
	secretFile string
	rotate     bool
	// given is the secret of the file. It is empty if there is no such file yet.
	given bitbucket.Secret
}

func webhooksEnsureCommand(lookup lookup) *cobra.Command {
	f := &ensureFlags{webhookFlags: webhookFlags{remote: remote{lookup: lookup}}}
	return newWebhookCommand(&cobra.Command{
		Use: "ensure", Short: "Create a webhook, or change it if it differs", Long: ensureAbout,
		Example: `  runnerctl webhooks ensure --workspace acme --url https://runners.example.com/webhooks/bitbucket --secret-file webhook.secret
  runnerctl webhooks ensure --workspace acme --url https://runners.example.com/webhooks/bitbucket --secret-file webhook.secret --yes`,
	}, &f.webhookFlags, func(set *flags.Set) {
		f.defineTarget(set)
		set.StringSliceVar(&f.events, "events", webhooks.Events(), "`events` that the webhook delivers; the scaler understands pullrequest:created, pullrequest:updated, pullrequest:push and pullrequest:fulfilled too")
		set.StringVar(&f.secretFile, "secret-file", "", "`file` with the secret of the webhook; a new webhook's is created if it does not exist")
		set.Bool(&f.rotate, "rotate", "", "replace the webhook's secret by that of --secret-file")
	}, f.checkEnsure, f.ensure)
}

func (f *ensureFlags) checkEnsure(set *flags.Set) {
	f.checkURL(set)
	understood := webhook.Events()
	for _, event := range f.events {
		if i := slices.Index(understood, event); i < 0 || i == len(understood)-1 {
			set.Fault("--events: %q, want some of %s", event, strings.Join(understood[:len(understood)-1], ", "))
		}
	}
	if len(f.events) == 0 {
		set.Fault("--events: empty, want at least one")
	}
	if f.description == "" {
		set.Fault("--description: empty")
	}
	if f.secretFile != "" {
		text, err := os.ReadFile(f.secretFile)
		f.given = bitbucket.Secret(strings.TrimSpace(string(text)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			set.Fault("--secret-file: %w", err)
		default:
			if err := credentials.CheckWebhookSecret(f.given.Reveal()); err != nil {
				set.Fault("--secret-file: %s: %w", f.secretFile, err)
			}
		}
	}
	if f.rotate && f.given == "" {
		set.Fault("--rotate: want --secret-file with a secret that the scaler accepts already")
	}
}

func (f *ensureFlags) ensure(ctx context.Context, client *bitbucket.Client, stdout io.Writer) error {
	hooks, err := webhooks.List(ctx, client, f.scope())
	if err != nil {
		return err
	}
	hook, found, err := f.find(hooks)
	if err != nil {
		return err
	}
	report, needsSecret := f.plan(hook, found)
	report.Notes = f.notes(hooks, found)
	if found && !needsSecret && f.secretFile != "" {
		report.Notes = append(report.Notes, "its secret stays as it is at Bitbucket; --rotate replaces it with that of "+f.secretFile)
	}
	if needsSecret && f.secretFile == "" {
		return fmt.Errorf("--secret-file: missing: the webhook of %s needs a secret, want a file that contains it or into which it is written", f.scope())
	}
	if !f.yes || report.Action == "none" {
		return f.write(stdout, report, "")
	}
	settings := webhooks.Settings{Description: f.description, URL: f.address, Events: f.events}
	if needsSecret {
		if settings.Secret, err = f.secret(); err != nil {
			return err
		}
	}
	if found {
		hook, err = webhooks.Update(ctx, client, f.scope(), hook.UUID, settings)
	} else {
		hook, err = webhooks.Create(ctx, client, f.scope(), settings)
	}
	if err != nil {
		return err
	}
	report.Done, report.Webhook = true, &hook
	next := ""
	if needsSecret && !f.rotate {
		next = f.nextStep()
	}
	return f.write(stdout, report, next)
}

// plan returns what is to be done, and whether that needs a secret.
func (f *ensureFlags) plan(hook webhooks.Hook, found bool) (report webhookReport, needsSecret bool) {
	secret := "secret: that of " + f.secretFile
	if f.given == "" {
		secret = "secret: a random one, written to " + f.secretFile
	}
	if !found {
		return webhookReport{Action: "create", Webhook: &webhooks.Hook{Description: f.description, URL: f.address, Active: true, Events: f.events}, Changes: []string{
			"description: " + f.description, "events: " + strings.Join(f.events, ", "), secret,
		}}, true
	}
	report = webhookReport{Action: "change", Webhook: &hook}
	change := func(format string, args ...any) {
		report.Changes = append(report.Changes, fmt.Sprintf(format, args...))
	}
	if hook.URL != f.address {
		change("url: %s -> %s", hook.URL, f.address)
	}
	if hook.Description != f.description {
		change("description: %q -> %q", hook.Description, f.description)
	}
	if !slices.Equal(sorted(hook.Events), sorted(f.events)) {
		change("events: %s -> %s", strings.Join(sorted(hook.Events), ", "), strings.Join(sorted(f.events), ", "))
	}
	if !hook.Active {
		change("active: false -> true")
	}
	// Bitbucket may not say whether there is a secret. In that case there was one.
	needsSecret = f.rotate || hook.SecretSet != nil && !*hook.SecretSet
	if needsSecret {
		change("%s", secret)
	}
	if len(report.Changes) == 0 {
		report.Action, report.Done = "none", true
	}
	return report, needsSecret
}

func sorted(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return slices.Compact(words)
}

// notes are about what is unusual.
func (f *ensureFlags) notes(hooks []webhooks.Hook, found bool) (notes []string) {
	if strings.HasPrefix(f.address, "http://") {
		notes = append(notes, "the URL is plain HTTP: anyone on the way can read what is delivered")
	}
	if !strings.HasSuffix(f.address, webhook.Path) {
		notes = append(notes, "the URL does not end in "+webhook.Path+", where the scaler takes deliveries")
	}
	for _, h := range hooks {
		if !found && h.Description == f.description && h.URL != f.address {
			notes = append(notes, fmt.Sprintf("another webhook has this description: %s. It is left alone; to change its URL instead, give --description", h.URL))
		}
	}
	return notes
}

// secret returns the secret of the file, which it creates if there is none. It is in the
// file before Bitbucket has it, so that it cannot be lost.
func (f *ensureFlags) secret() (bitbucket.Secret, error) {
	if f.given != "" {
		return f.given, nil
	}
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // it never fails
	secret := base64.RawURLEncoding.EncodeToString(random)
	file, err := os.OpenFile(f.secretFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	_, err = file.WriteString(secret)
	if err = errors.Join(err, file.Close()); err != nil {
		return "", fmt.Errorf("--secret-file: %w", err)
	}
	return bitbucket.Secret(secret), nil
}

// nextStep says how to give the secret to the scaler.
func (f *ensureFlags) nextStep() string {
	name := "runner-bitbucket-credentials"
	if f.set != credentials.Default {
		name = "SECRET-OF-THE-SET-" + f.set
	}
	return fmt.Sprintf(`
Give the secret to the scaler, which reads it again within a minute or two:

  kubectl create secret generic %s -n bitbucket-runner-scaler --from-file=%s=%s \
    --dry-run=client -o yaml | kubectl apply --server-side --field-manager=runnerctl -f -

Then keep the file in a safe place or delete it.
`, name, credentials.WebhookSecretKey, f.secretFile)
}
