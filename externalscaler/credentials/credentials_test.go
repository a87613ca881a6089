package credentials

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
)

const tokenFile = "bitbucketAccessToken"

// write makes a set's folder as a mounted Secret would.
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

func TestWhoMayUseASet(t *testing.T) {
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
		"closed by default":              {"closed", "team-a", ErrForbidden},
		"a namespace that is listed":     {"two", "team-b", nil},
		"one that is not":                {"two", "team-c", ErrForbidden},
		"part of one that is":            {"two", "team", ErrForbidden},
		"no namespace":                   {"two", "", ErrForbidden},
		"open to all":                    {"open", "any", nil},
		"the environment is the default": {Default, "any", nil},
		"an unknown set":                 {"nobodys", "team-a", ErrUnknownSet},
		"an empty folder":                {"empty", "team-a", ErrUnknownSet},
		"half a pair":                    {"half", "team-a", ErrUnknownSet},
		"no name":                        {"", "team-a", ErrUnknownSet},
		"the parent":                     {"..", "team-a", ErrUnknownSet},
		"the folder itself":              {".", "team-a", ErrUnknownSet},
		"a neighbour of the folder":      {"../outside", "team-a", ErrUnknownSet},
		"round about":                    {"two/../open", "team-a", ErrUnknownSet},
		"an absolute path":               {filepath.Join(dir, "open"), "team-a", ErrUnknownSet},
		"deeper":                         {"open/nested", "team-a", ErrUnknownSet},
		"a volume's own folder":          {"..data", "team-a", ErrUnknownSet},
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

func TestRotatedCredentialsTakeEffectAndUnchangedOnesKeepTheirClient(t *testing.T) {
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
		t.Errorf("%d clients were made", len(*made))
	}
	if names := slices.Sorted(maps.Keys(s.Clients())); !slices.Equal(names, []string{"set"}) || s.Clients()["set"] != second {
		t.Errorf("clients of %q", names)
	}
	write(t, dir, "set", map[string]string{"namespaces": "other"})
	if _, err := s.Client("set", "ns"); !errors.Is(err, ErrForbidden) {
		t.Errorf("a namespace that was taken off: got %v", err)
	}
}

func TestWithoutAFolderThereIsTheEnvironmentAlone(t *testing.T) {
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
