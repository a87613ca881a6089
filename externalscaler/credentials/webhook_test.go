package credentials

import (
	"slices"
	"strings"
	"testing"
)

const (
	current  = "current-secret-of-a-webhook"
	previous = "previous-secret-of-a-webhook"
)

// webhooks returns the secrets of each set, as name=secret+secret.
func webhooks(t *testing.T, s *Store) (found []string, err error) {
	t.Helper()
	sets, err := s.Webhooks()
	for _, set := range sets {
		secrets := make([]string, 0, len(set.Secrets))
		for _, secret := range set.Secrets {
			secrets = append(secrets, secret.Reveal())
		}
		found = append(found, set.Name+"="+strings.Join(secrets, "+"))
	}
	return found, err
}

func TestWhichSecretsAWebhookMayHave(t *testing.T) {
	for name, c := range map[string]struct {
		files, env map[string]string
		want       string
		fault      string
	}{
		"none":                         {},
		"one":                          {files: map[string]string{"webhookSecret": current + "\n"}, want: "default=" + current},
		"two during a rotation":        {files: map[string]string{"webhookSecret": current, "webhookSecretPrevious": previous}, want: "default=" + current + "+" + previous},
		"by the variables' names":      {files: map[string]string{"BITBUCKET_WEBHOOK_SECRET": current, "BITBUCKET_WEBHOOK_SECRET_PREVIOUS": previous}, want: "default=" + current + "+" + previous},
		"from the environment":         {env: map[string]string{"BITBUCKET_WEBHOOK_SECRET": current, "BITBUCKET_WEBHOOK_SECRET_PREVIOUS": previous}, want: "default=" + current + "+" + previous},
		"the folder before the others": {files: map[string]string{"webhookSecret": current}, env: map[string]string{"BITBUCKET_WEBHOOK_SECRET_PREVIOUS": previous}, want: "default=" + current},
		"empty":                        {files: map[string]string{"webhookSecret": " \n"}},
		"too short": {
			files: map[string]string{"webhookSecret": "123456789012345", "webhookSecretPrevious": previous}, want: "default=" + previous,
			fault: `webhookSecret (BITBUCKET_WEBHOOK_SECRET): 15 characters, want at least 16 random ones`,
		},
		"too short in the environment": {
			env:   map[string]string{"BITBUCKET_WEBHOOK_SECRET_PREVIOUS": "x"},
			fault: `webhookSecretPrevious (BITBUCKET_WEBHOOK_SECRET_PREVIOUS): 1 characters, want at least 16`,
		},
		"with a space": {files: map[string]string{"webhookSecret": "two words and more"}, fault: "webhookSecret (BITBUCKET_WEBHOOK_SECRET): contains a space"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.files != nil {
				c.files[tokenFile], c.files["namespaces"] = "token", "*"
				write(t, dir, Default, c.files)
			}
			s, _ := store(dir, c.env)
			found, err := webhooks(t, s)
			if got := strings.Join(found, " "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("got %v, want %q", err, c.fault)
			}
			if c.files == nil {
				return
			}
			sets, err := Inspect(dir, func(string) (string, bool) { return "", false })
			if err != nil || len(sets) != 1 {
				t.Fatalf("got %v, %v, want one set", sets, err)
			}
			faults := strings.Join(sets[0].Faults, "\n")
			if !strings.Contains(faults, c.fault) || c.fault == "" && name != "empty" && faults != "" {
				t.Errorf("got %q, want %q", faults, c.fault)
			}
		})
	}
}

func TestASecretOfAWebhookIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "team", map[string]string{tokenFile: "token", "namespaces": "*", "webhookSecret": previous})
	s, _ := store(dir, map[string]string{"BITBUCKET_WEBHOOK_SECRET": "secret-of-the-environment"})
	check := func(want ...string) {
		t.Helper()
		if got, err := webhooks(t, s); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	check("default=secret-of-the-environment", "team="+previous)
	write(t, dir, "team", map[string]string{"webhookSecret": current, "webhookSecretPrevious": previous})
	write(t, dir, "other", map[string]string{"webhookSecret": current})
	check("default=secret-of-the-environment", "other="+current, "team="+current+"+"+previous)
}

func TestAFaultySecretOfAWebhookLeavesTheSetUsable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "team", map[string]string{tokenFile: "token", "namespaces": "*", "webhookSecret": "short"})
	s, _ := store(dir, nil)
	if client, err := s.Client("team", "any"); err != nil || client == nil {
		t.Errorf("got %v, want a client", err)
	}
}

func TestWhichRepositoriesASetCovers(t *testing.T) {
	workspace, repository := []string{"acme", "{11111111-1111-4111-8111-111111111111}"}, []string{"app", "{22222222-2222-4222-8222-222222222222}"}
	for name, c := range map[string]struct {
		serves Serves
		onlyID bool
		want   bool
	}{
		"everything":                       {Serves{}, false, true},
		"the workspace's slug":             {Serves{Workspaces: []string{"ACME"}}, false, true},
		"the workspace's UUID":             {Serves{Workspaces: []string{workspace[1]}}, true, true},
		"a slug, but only UUIDs are given": {Serves{Workspaces: []string{"acme"}}, true, false},
		"another workspace":                {Serves{Workspaces: []string{"other"}}, false, false},
		"no workspace":                     {Serves{Workspaces: []string{}}, false, false},
		"any workspace":                    {Serves{Workspaces: []string{"*"}}, true, true},
		"the repository's slug":            {Serves{Repositories: []string{"app"}}, false, true},
		"the repository's UUID":            {Serves{Repositories: []string{repository[1]}}, true, true},
		"the full name":                    {Serves{Repositories: []string{"acme/app"}}, false, true},
		"another full name":                {Serves{Repositories: []string{"other/app"}}, false, false},
		"another repository":               {Serves{Workspaces: []string{"acme"}, Repositories: []string{"web"}}, false, false},
		"another workspace's repository":   {Serves{Workspaces: []string{"other"}, Repositories: []string{"app"}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, r := workspace, repository
			if c.onlyID {
				w, r = []string{"", w[1]}, []string{"", r[1]}
			}
			if got := c.serves.Covers(w, r); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
