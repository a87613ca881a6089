package credentials

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryFaultyFileIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string // one per fault
	}{
		"good":               {map[string]string{tokenFile: "a", "namespaces": "team-a\nteam-b"}, nil},
		"by variable's name": {map[string]string{"BITBUCKET_ACCESS_TOKEN": "a", "namespaces": "*"}, nil},
		"internal file":      {map[string]string{tokenFile: "a", "namespaces": "*", "..data": "x"}, nil},
		"misspelt":           {map[string]string{"bitbucketaccesstoken": "a", "namespaces": "*"}, []string{"bitbucketaccesstoken: unknown key, want bitbucketAccessToken?", "no credentials: want one of"}},
		"unknown":            {map[string]string{tokenFile: "a", "namespaces": "*", "password": "b"}, []string{"password: unknown key, want bitbucketOauthClientId, "}},
		"empty":              {map[string]string{"atlassianAccountEmail": "a@b", "atlassianApiToken": " \n", "namespaces": "*"}, []string{"atlassianApiToken: empty", "atlassianApiToken (ATLASSIAN_API_TOKEN): missing, the API token needs it"}},
		"two kinds":          {map[string]string{tokenFile: "a", "bitbucketUsername": "u", "bitbucketAppPassword": "p", "namespaces": "*"}, []string{"app password and access token are given together"}},
		"two values of a key": {map[string]string{tokenFile: "a", "BITBUCKET_ACCESS_TOKEN": "b", "namespaces": "*"},
			[]string{"bitbucketAccessToken and BITBUCKET_ACCESS_TOKEN contain different values"}},
		"no namespaces":          {map[string]string{tokenFile: "a"}, []string{"namespaces: missing or empty, so no namespace"}},
		"empty namespaces":       {map[string]string{tokenFile: "a", "namespaces": "\n"}, []string{"namespaces: missing or empty, so no namespace"}},
		"namespaces with commas": {map[string]string{tokenFile: "a", "namespaces": "a,b"}, []string{`namespaces: "a,b", want names`}},
		"restrictions":           {map[string]string{tokenFile: "a", "namespaces": "*", "workspaces": "acme {11111111-1111-4111-8111-111111111111}", "repositories": "app acme/web", "labels": "team.a team.b.*"}, nil},
		"bad restrictions": {map[string]string{tokenFile: "a", "namespaces": "*", "workspaces": "a/b", "repositories": "a/b/c /x", "labels": "Team x*y"},
			[]string{`workspaces: "a/b", want slugs`, `repositories: "a/b/c", want`, `repositories: "/x", want`, `labels: "Team", want`, `labels: "x*y", want`}},
		"empty restrictions": {map[string]string{tokenFile: "a", "namespaces": "*", "workspaces": "", "labels": " "}, []string{"workspaces: empty, which allows nothing", "labels: empty, which allows nothing"}},
		"many faults": {map[string]string{"bitbucketOauthClientId": "a b", "x": "", "bitbucketOauthClientSecret": ""},
			[]string{"bitbucketOauthClientSecret: empty", "x: unknown key", "bitbucketOauthClientId (BITBUCKET_OAUTH_CLIENT_ID): contains a space", "bitbucketOauthClientSecret (BITBUCKET_OAUTH_CLIENT_SECRET): missing", "namespaces: missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "set", c.files)
			sets, err := Inspect(dir, func(string) (string, bool) { return "", false })
			if err != nil || len(sets) != 1 || sets[0].Name != "set" {
				t.Fatalf("got %+v, %v, want one set", sets, err)
			}
			checkFaults(t, sets[0], c.want)
		})
	}
}

// checkFaults checks that each text is in a separate fault and that there are no other faults.
func checkFaults(t *testing.T, set Set, want []string) {
	t.Helper()
	left := append([]string(nil), set.Faults...)
	for _, text := range want {
		found := false
		for i, fault := range left {
			if strings.Contains(fault, text) {
				left, found = append(left[:i], left[i+1:]...), true
				break
			}
		}
		if !found {
			t.Errorf("no fault contains %q: %q", text, set.Faults)
		}
	}
	if len(left) > 0 {
		t.Errorf("unexpected faults: %q", left)
	}
	if len(want) == 0 && set.Credentials.Kind() == "" {
		t.Error("got neither credentials nor a fault")
	}
}

func TestUnreadableFilesAreReported(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "set/bitbucketAccessToken", nil) // a folder instead of a key
	write(t, dir, "set/namespaces", nil)
	if err := os.WriteFile(filepath.Join(dir, tokenFile), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	sets, err := Inspect(dir, func(string) (string, bool) { return "", false })
	if err != nil || len(sets) != 3 {
		t.Fatalf("got %+v, %v, want three sets", sets, err)
	}
	checkFaults(t, sets[0], []string{"bitbucketAccessToken: is a file, want a folder for each set"})
	checkFaults(t, sets[1], []string{"gone: no such file or directory"})
	checkFaults(t, sets[2], []string{"bitbucketAccessToken: is a directory", "namespaces: is a directory"})
	if _, err := Inspect(filepath.Join(dir, "not"), nil); err == nil || !strings.Contains(err.Error(), "credentials directory: open") {
		t.Errorf("a directory that does not exist: got %v", err)
	}
}

func TestEnvironmentIsTheDefaultSetWithoutAFolder(t *testing.T) {
	env := func(values map[string]string) func(string) (string, bool) {
		return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	}
	given := map[string]string{"BITBUCKET_ACCESS_TOKEN": "env"}
	for name, c := range map[string]struct {
		folders map[string]map[string]string
		env     map[string]string
		sources []string // in order; a folder's is its name
		faults  int
	}{
		"the environment alone":        {nil, given, []string{Environment}, 0},
		"nothing":                      {nil, nil, []string{Environment}, 1},
		"part of the environment":      {nil, map[string]string{"BITBUCKET_USERNAME": "x"}, []string{Environment}, 1},
		"a folder takes precedence":    {map[string]map[string]string{Default: {tokenFile: "a", "namespaces": "*"}}, given, []string{Default}, 0},
		"a folder without credentials": {map[string]map[string]string{Default: {"namespaces": "*"}}, given, []string{Environment}, 0},
		"with other folders":           {map[string]map[string]string{"x": {tokenFile: "a", "namespaces": "*"}}, given, []string{"x", Environment}, 0},
		"only other folders":           {map[string]map[string]string{"x": {tokenFile: "a", "namespaces": "*"}}, nil, []string{"x"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			if c.folders != nil {
				dir = t.TempDir()
			}
			for folder, files := range c.folders {
				write(t, dir, folder, files)
			}
			sets, err := Inspect(dir, env(c.env))
			if err != nil || len(sets) != len(c.sources) {
				t.Fatalf("got %+v, %v, want %q", sets, err, c.sources)
			}
			faults := 0
			for i, set := range sets {
				want := c.sources[i]
				if want != Environment {
					want = filepath.Join(dir, want)
				}
				if set.Source != want {
					t.Errorf("set %s: got source %s, want %s", set.Name, set.Source, want)
				}
				faults += len(set.Faults)
			}
			if faults != c.faults {
				t.Errorf("got %d faults, want %d: %+v", faults, c.faults, sets)
			}
		})
	}
}
