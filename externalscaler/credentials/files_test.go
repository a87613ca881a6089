package credentials

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"bitbucket-runner-scaler/bitbucket"
)

// mountVersion lays a set out as the kubelet mounts a Secret: links that lead, through one
// that is replaced, to a folder per version.
func mountVersion(t *testing.T, dir string, version int, token string) {
	t.Helper()
	data := filepath.Join(dir, fmt.Sprint("..", version))
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"bitbucketAccessToken": token, "namespaces": "team"} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, name)
		if _, err := os.Lstat(link); err != nil {
			if err := os.Symlink(filepath.Join("..data", name), link); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := filepath.Join(dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(data), next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

func TestASetIsReadAgainWhenItsMountedSecretChanges(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "team")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := NewStore(root, func(string) (string, bool) { return "", false }, func(_ string, c bitbucket.Credentials) (*bitbucket.Client, error) {
		return bitbucket.NewClient(bitbucket.Config{Credentials: c})
	})
	for version, token := range []string{"aaaa", "bbbb", "cccc"} { // of one length
		mountVersion(t, dir, version, token)
		credentials, _, err := s.readFiles("team")
		if err != nil || credentials.AccessToken.Reveal() != token {
			t.Errorf("version %d: got another token than %s, %v", version, token, err)
		}
	}
}

func TestAnUnchangedSetIsNotReadAgain(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "team")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mountVersion(t, dir, 0, "aaaa")
	s := NewStore(root, func(string) (string, bool) { return "", false }, nil)
	if _, _, err := s.readFiles("team"); err != nil {
		t.Fatal(err)
	}
	known := s.files["team"]
	known.serves.Namespaces = []string{"from memory"}
	s.files["team"] = known
	if _, serves, err := s.readFiles("team"); err != nil || serves.Namespaces[0] != "from memory" {
		t.Errorf("got %v, %v: the files were read again", serves.Namespaces, err)
	}
	if err := os.Remove(filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.readFiles("team"); err == nil || len(s.files) != 0 {
		t.Errorf("a set that is gone: got %v, and %d are remembered", err, len(s.files))
	}
}
