package credentials

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

const tokenFile = "bitbucketAccessToken"

// write makes a set's folder in the form of a mounted Secret.
func write(t *testing.T, dir, name string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func store(dir string, env map[string]string) (s *Store, made *[]bitbucket.Credentials) {
	made = &[]bitbucket.Credentials{}
	return NewStore(dir, func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		func(_ string, c bitbucket.Credentials) (*bitbucket.Client, error) {
			*made = append(*made, c)
			return bitbucket.NewClient(bitbucket.Config{Credentials: c})
		}), made
}

func TestNamespacesThatMayUseASet(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "closed", map[string]string{tokenFile: "a"})
	write(t, dir, "two", map[string]string{tokenFile: "b", "namespaces": "team-a\n  team-b\n"})
	write(t, dir, "open", map[string]string{tokenFile: "c", "namespaces": "*"})
	write(t, dir, "empty", nil)
	write(t, dir, "half", map[string]string{"bitbucketUsername": "me", "namespaces": "*"})
	write(t, dir, "open/nested", map[string]string{tokenFile: "d", "namespaces": "*"})
	write(t, filepath.Dir(dir), "outside", map[string]string{tokenFile: "e", "namespaces": "*"})
	write(t, dir, "..data", map[string]string{tokenFile: "f", "namespaces": "*"})
	env := map[string]string{"BITBUCKET_ACCESS_TOKEN": "env"}
	for name, c := range map[string]struct {
		set, namespace string
		want           error
	}{
		"no namespaces file":             {"closed", "team-a", ErrForbidden},
		"a namespace that is listed":     {"two", "team-b", nil},
		"a namespace that is not listed": {"two", "team-c", ErrForbidden},
		"part of a listed namespace":     {"two", "team", ErrForbidden},
		"no namespace":                   {"two", "", ErrForbidden},
		"open to all":                    {"open", "any", nil},
		"the environment as default":     {Default, "any", nil},
		"an unknown set":                 {"nobodys", "team-a", ErrUnknownSet},
		"an empty folder":                {"empty", "team-a", ErrUnknownSet},
		"only one key of a pair":         {"half", "team-a", ErrUnknownSet},
		"no name":                        {"", "team-a", ErrUnknownSet},
		"the parent":                     {"..", "team-a", ErrUnknownSet},
		"the folder itself":              {".", "team-a", ErrUnknownSet},
		"a sibling of the folder":        {"../outside", "team-a", ErrUnknownSet},
		"a path with dots":               {"two/../open", "team-a", ErrUnknownSet},
		"an absolute path":               {filepath.Join(dir, "open"), "team-a", ErrUnknownSet},
		"a nested folder":                {"open/nested", "team-a", ErrUnknownSet},
		"the volume's internal folder":   {"..data", "team-a", ErrUnknownSet},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := store(dir, env)
			client, err := s.Client(c.set, c.namespace)
			if !errors.Is(err, c.want) || (client == nil) != (c.want != nil) {
				t.Errorf("got %v, %v, want %v", client, err, c.want)
			}
		})
	}
}

func TestScopesAndLabelsThatASetAllows(t *testing.T) {
	const uuid, other = "{11111111-1111-4111-8111-111111111111}", "{22222222-2222-4222-8222-222222222222}"
	dir := t.TempDir()
	for name, files := range map[string]map[string]string{
		"any":          {},
		"workspaces":   {"workspaces": "acme " + uuid},
		"repositories": {"workspaces": "acme", "repositories": "acme/app web " + other},
		"anywhere":     {"repositories": "app"},
		"labels":       {"labels": "build\nteam.a.*"},
		"nothing":      {"workspaces": ""},
		"stars":        {"workspaces": "*", "repositories": "*", "labels": "*"},
	} {
		files[tokenFile], files["namespaces"] = "secret", "ns"
		write(t, dir, name, files)
	}
	for name, c := range map[string]struct {
		set                   string
		workspace, repository string
		labels                []string
		refusal               string // empty: allowed
	}{
		"without restrictions":             {set: "any", workspace: "x", repository: other, labels: []string{"y"}},
		"a workspace by its slug":          {set: "workspaces", workspace: "Acme"},
		"a workspace by its UUID":          {set: "workspaces", workspace: strings.ToUpper(uuid)},
		"another workspace":                {set: "workspaces", workspace: "acme2", refusal: `workspace "acme2": its key workspaces`},
		"another workspace by its UUID":    {set: "workspaces", workspace: other, refusal: "its key workspaces"},
		"a repository of the workspace":    {set: "workspaces", workspace: "acme", repository: "app"},
		"a repository by its UUID":         {set: "workspaces", workspace: "acme", repository: other, refusal: "could be of any"},
		"a listed repository":              {set: "repositories", workspace: "acme", repository: "app"},
		"one listed by its slug":           {set: "repositories", workspace: "acme", repository: "WEB"},
		"one listed by its UUID":           {set: "repositories", workspace: "acme", repository: other},
		"a repository that is not listed":  {set: "repositories", workspace: "acme", repository: "api", refusal: `repository "api": its key repositories`},
		"one by a UUID that is not listed": {set: "repositories", workspace: "acme", repository: uuid, refusal: "its key repositories"},
		"one of another workspace":         {set: "repositories", workspace: "evil", repository: "app", refusal: `workspace "evil"`},
		"a whole workspace":                {set: "repositories", workspace: "acme", refusal: "a whole workspace: its key repositories"},
		"a slug in any workspace":          {set: "anywhere", workspace: "evil", repository: "app"},
		"listed labels":                    {set: "labels", workspace: "x", labels: []string{"build", "team.a.big"}},
		"a label that is not listed":       {set: "labels", workspace: "x", labels: []string{"build", "prod"}, refusal: `label "prod": its key labels`},
		"a prefix that is not listed":      {set: "labels", workspace: "x", labels: []string{"team.b"}, refusal: `label "team.b"`},
		"an empty file":                    {set: "nothing", workspace: "acme", refusal: `workspace "acme"`},
		"stars":                            {set: "stars", workspace: "acme", repository: other, labels: []string{"z"}},
		"stars and a whole workspace":      {set: "stars", workspace: "acme"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := store(dir, nil)
			use := Use{Namespace: "ns", Scope: bitbucket.Scope{Workspace: c.workspace, Repository: c.repository}, Labels: c.labels}
			err := s.Allow(c.set, use)
			if errors.Is(err, ErrForbidden) != (c.refusal != "") || err != nil && !strings.Contains(err.Error(), c.refusal) {
				t.Errorf("got %v, want %q", err, c.refusal)
			}
			for _, listed := range []string{"web", "team.a", "acme/app"} { // by the set, for other tenants
				if err != nil && strings.Contains(err.Error(), listed) {
					t.Errorf("%v names %s, which is another tenant's", err, listed)
				}
			}
			use.Namespace = "elsewhere"
			if err := s.Allow(c.set, use); !errors.Is(err, ErrForbidden) || strings.Contains(err.Error(), "acme") {
				t.Errorf("another namespace: got %v", err)
			}
			// Runners that exist are still managed.
			if _, err := s.Client(c.set, "ns"); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	s, _ := store(dir, map[string]string{"BITBUCKET_ACCESS_TOKEN": "x"})
	if err := s.Allow(Default, Use{Namespace: "any", Scope: bitbucket.Scope{Workspace: "any"}}); err != nil {
		t.Errorf("the environment: got %v", err)
	}
}

func TestScopesNamedByTheFiles(t *testing.T) {
	for name, c := range map[string]struct {
		serves Serves
		want   string
	}{
		"none":                               {Serves{}, ""},
		"workspaces":                         {Serves{Workspaces: []string{"a", "*", "b", "not/one"}}, "a b"},
		"repositories of one workspace":      {Serves{Workspaces: []string{"a"}, Repositories: []string{"x", "b/y", "*"}}, "a/x b/y"},
		"repositories of any workspace":      {Serves{Repositories: []string{"x", "b/y"}}, "b/y"},
		"repositories of several workspaces": {Serves{Workspaces: []string{"a", "b"}, Repositories: []string{"x"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, scope := range c.serves.Scopes() {
				got = append(got, scope.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// The two teams each have a namespace, a workspace and credentials.
func TestNoMetadataGivesATeamAnotherTeamsCredentialsOrWorkspace(t *testing.T) {
	const uuidA, uuidB = "{aaaaaaaa-1111-4111-8111-111111111111}", "{bbbbbbbb-1111-4111-8111-111111111111}"
	dir := t.TempDir()
	write(t, dir, "team-a", map[string]string{tokenFile: "a", "namespaces": "ns-a", "workspaces": "a " + uuidA})
	write(t, dir, "team-b", map[string]string{tokenFile: "b", "namespaces": "ns-b", "workspaces": "b " + uuidB})
	sets := []string{"", Default, "team-a", "team-b", "TEAM-B", "team-b/", "./team-b", "../team-b", "team-a/../team-b", "team-*", "team-a,team-b", " team-b", "..", dir + "/team-b"}
	places := []string{"a", "b", "A", "B", uuidA, uuidB, strings.ToUpper(uuidB), "a/b", "../b", "%2e%2e", "b ", "{}", "*"}
	repositories := []string{"", "app", uuidA, uuidB, "../b", "a/../b", "*"}
	allowed := 0
	for _, set := range sets {
		for _, workspace := range places {
			for _, repository := range repositories {
				spec, err := runnergroup.Parse(map[string]string{"workspace": workspace, "repository": repository, "labels": "x", "credentials": set})
				if err != nil {
					continue // Parse refuses it
				}
				s, made := store(dir, nil)
				err = s.Allow(spec.Credentials, Use{Namespace: "ns-a", Scope: bitbucket.Scope{Workspace: spec.Workspace, Repository: spec.Repository}, Labels: spec.Labels})
				if _, clientErr := s.Client(spec.Credentials, "ns-a"); clientErr == nil && ((*made)[0].AccessToken.Reveal() != "a") {
					t.Errorf("credentials %q: got the other team's client", set)
				}
				if err != nil {
					continue
				}
				allowed++
				if spec.Credentials != "team-a" || !strings.EqualFold(spec.Workspace, "a") && !strings.EqualFold(spec.Workspace, uuidA) || bitbucket.IsUUID(spec.Repository) {
					t.Errorf("team a may use %+v", spec)
				}
			}
		}
	}
	if allowed == 0 {
		t.Error("team a may not use its own set")
	}
}

func TestRotatedCredentialsGetANewClientAndUnchangedOnesKeepTheirs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "set", map[string]string{tokenFile: "old", "namespaces": "ns"})
	s, made := store(dir, nil)
	first, err := s.Client("set", "ns")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Client("set", "ns"); err != nil || again != first {
		t.Errorf("unchanged: got %v, %v, want the same client", again, err)
	}
	write(t, dir, "set", map[string]string{tokenFile: "new"})
	second, err := s.Client("set", "ns")
	if err != nil || second == first {
		t.Errorf("rotated: got %v, %v, want another client", second, err)
	}
	if len(*made) != 2 || (*made)[1].AccessToken.Reveal() != "new" {
		t.Errorf("got %d clients, want 2", len(*made))
	}
	if names := slices.Sorted(maps.Keys(s.Clients())); !slices.Equal(names, []string{"set"}) || s.Clients()["set"] != second {
		t.Errorf("got clients of %q", names)
	}
	write(t, dir, "set", map[string]string{"namespaces": "other"})
	if _, err := s.Client("set", "ns"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a namespace that was removed: got %v", err)
	}
}

func TestWithoutADirectoryOnlyTheEnvironmentIsUsed(t *testing.T) {
	s, _ := store("", nil)
	if _, err := s.Client(Default, "ns"); !errors.Is(err, ErrUnknownSet) || !errors.Is(err, bitbucket.ErrNoCredentials) {
		t.Errorf("an empty environment: got %v", err)
	}
	s, _ = store("", map[string]string{"BITBUCKET_ACCESS_TOKEN": "x"})
	if _, err := s.Client("other", "ns"); !errors.Is(err, ErrUnknownSet) {
		t.Errorf("another set: got %v", err)
	}
	if _, err := s.Client(Default, "ns"); err != nil {
		t.Errorf("the default: got %v", err)
	}
}

func TestTheEnvironmentIsReadOnce(t *testing.T) {
	for name, token := range map[string]string{"valid": "x", "faulty": "x y"} {
		t.Run(name, func(t *testing.T) {
			read := 0
			s := NewStore("", func(name string) (string, bool) {
				if name == "BITBUCKET_ACCESS_TOKEN" {
					read++
					return token, true
				}
				return "", false
			}, nil)
			first := s.Allow(Default, Use{Namespace: "ns"})
			if again := s.Allow(Default, Use{Namespace: "ns"}); (first == nil) != (name == "valid") || fmt.Sprint(again) != fmt.Sprint(first) {
				t.Errorf("got %v, then %v", first, again)
			}
			if read != 1 {
				t.Errorf("read %d times, want once", read)
			}
		})
	}
}
