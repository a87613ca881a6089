package certificates

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(p Pair) {
		t.Helper()
		for name, content := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.Key, "ca.crt": p.Bundle} {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	first, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := fresh(time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	write(first)
	files, err := NewFiles(t.Context(), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	address := serve(t, files, nil)
	if err := call(t, address, trusting(t, bundleOf(t, files), nil)); err != nil {
		t.Fatal(err)
	}
	write(second)
	deadline := time.Now().Add(patience)
	for call(t, address, trusting(t, second.Bundle, nil)) != nil {
		if time.Now().After(deadline) {
			t.Fatal("the changed files are not served")
		}
	}
	if got := bundleOf(t, files); string(got) != string(second.Bundle) {
		t.Error("the old authority is still published")
	}
	for name, path := range map[string][3]string{
		"no such file":   {"/nonexistent", filepath.Join(dir, "tls.key"), ""},
		"not a key":      {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "ca.crt"), ""},
		"not a bundle":   {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "tls.key")},
		"no such bundle": {filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), "/nonexistent"},
	} {
		if files, err := NewFiles(t.Context(), path[0], path[1], path[2]); err == nil {
			files.Close()
			t.Errorf("%s: got no error", name)
		}
	}
}
