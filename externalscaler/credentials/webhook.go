package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"bitbucket-runner-scaler/bitbucket"
)

// MinWebhookSecret is how many characters a webhook's secret has at least. Anyone who
// guesses it can make the scaler read repositories.
const MinWebhookSecret = 16

// maxWebhookSecret is the length of the longest secret that Bitbucket accepts.
const maxWebhookSecret = 128

// webhookKey is a key of a set that contains a webhook's secret.
type webhookKey struct{ file, env string }

// The previous secret is accepted beside the current one, so that a secret can be
// replaced without losing a delivery.
var webhookKeys = []webhookKey{
	{"webhookSecret", "BITBUCKET_WEBHOOK_SECRET"},
	{"webhookSecretPrevious", "BITBUCKET_WEBHOOK_SECRET_PREVIOUS"},
}

// WebhookSecretKey is the key of a set that contains its webhooks' secret.
// WebhookPreviousKey is the key of the one that was valid before.
var (
	WebhookSecretKey   = webhookKeys[0].file
	WebhookPreviousKey = webhookKeys[1].file
)

// webhookFiles returns the names that the files with webhooks' secrets may have.
func webhookFiles() (files, variables []string) {
	for _, key := range webhookKeys {
		files, variables = append(files, key.file), append(variables, key.env)
	}
	return files, variables
}

// Webhook is what a credentials set accepts from webhooks.
type Webhook struct {
	// Name is the set's.
	Name string
	// Secrets are those that may sign a delivery: one, or two during a rotation.
	Secrets []bitbucket.Secret
	// Serves is what the set may be used for.
	Serves Serves
}

// Webhooks returns the sets that have a webhook's secret, by name. It reads the files at
// each call. The error lists the faults of all sets. A secret with a fault is left out, and
// everything else is returned all the same.
func (s *Store) Webhooks() ([]Webhook, error) {
	var (
		found  []Webhook
		faults []error
		names  = []string{Default}
	)
	if s.dir != "" {
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			faults = append(faults, fmt.Errorf("credentials directory: %w", err))
		}
		for _, entry := range entries {
			if name := entry.Name(); !strings.HasPrefix(name, ".") && name != Default {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		set, err := s.webhook(name)
		if err != nil {
			faults = append(faults, fmt.Errorf("credentials: %q: %w", name, err))
		}
		if len(set.Secrets) > 0 {
			found = append(found, set)
		}
	}
	return found, errors.Join(faults...)
}

// webhook reads the webhooks' secrets of one set. Those of the set default come from the
// environment if its folder has none.
func (s *Store) webhook(name string) (Webhook, error) {
	set := Webhook{Name: name}
	var faults []error
	if s.dir != "" {
		dir := filepath.Join(s.dir, name)
		var err error
		if set.Secrets, err = webhookSecretsIn(dir); err != nil {
			faults = append(faults, err)
		}
		if set.Serves, err = readServes(dir); err != nil {
			// What the set serves is not known, so it accepts nothing.
			return Webhook{Name: name}, errors.Join(append(faults, err)...)
		}
	}
	if name == Default && len(set.Secrets) == 0 && len(faults) == 0 {
		var err error
		if set.Secrets, err = webhookSecretsOf(s.lookup); err != nil {
			faults = append(faults, err)
		}
	}
	return set, errors.Join(faults...)
}

// webhookSecretsIn reads the webhooks' secrets from the files of a set's folder.
func webhookSecretsIn(dir string) ([]bitbucket.Secret, error) {
	return webhookSecrets(func(key webhookKey) (string, error) {
		value, err := readFile(dir, key.file)
		if value == "" && err == nil {
			value, err = readFile(dir, key.env)
		}
		return value, err
	})
}

// webhookSecretsOf reads the webhooks' secrets from environment variables.
func webhookSecretsOf(lookup func(string) (string, bool)) ([]bitbucket.Secret, error) {
	return webhookSecrets(func(key webhookKey) (string, error) {
		value, _ := lookup(key.env)
		return strings.TrimSpace(value), nil
	})
}

func webhookSecrets(read func(webhookKey) (string, error)) (secrets []bitbucket.Secret, err error) {
	var faults []error
	for _, key := range webhookKeys {
		value, err := read(key)
		if err == nil && value != "" {
			if err = CheckWebhookSecret(value); err != nil {
				err = fmt.Errorf("%s (%s): %w", key.file, key.env, err)
			}
		}
		switch {
		case err != nil:
			faults = append(faults, err)
		case value != "":
			secrets = append(secrets, bitbucket.Secret(value))
		}
	}
	return secrets, errors.Join(faults...)
}

// CheckWebhookSecret returns an error that never contains the secret, or nil if it may be
// used.
func CheckWebhookSecret(secret string) error {
	if n := utf8.RuneCountInString(secret); n < MinWebhookSecret {
		return fmt.Errorf("%d characters, want at least %d random ones", n, MinWebhookSecret)
	}
	if strings.ContainsFunc(secret, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
		return errors.New("contains a space or a control character")
	}
	if len(secret) > maxWebhookSecret {
		return fmt.Errorf("%d bytes, want at most %d", len(secret), maxWebhookSecret)
	}
	return nil
}

// readFile returns "" if the file does not exist.
func readFile(dir, name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, cause(err))
	}
	return strings.TrimSpace(string(data)), nil
}

// Covers reports whether the set may read a repository, which has each of the given names:
// its slug, its UUID or both, and those of its workspace. It differs from Allows in that it
// is for names that Bitbucket signed and that therefore belong together.
func (s Serves) Covers(workspace, repository []string) bool {
	lists := func(words []string, names ...string) bool {
		return words == nil || slices.ContainsFunc(words, func(word string) bool {
			return word == all || slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.EqualFold(word, name) })
		})
	}
	full := slices.Clone(repository)
	for _, w := range workspace {
		for _, r := range repository {
			full = append(full, w+"/"+r)
		}
	}
	return lists(s.Workspaces, workspace...) && lists(s.Repositories, full...)
}
