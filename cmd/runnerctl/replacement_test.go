package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree is a directory's files by their path; a folder's content is "/".
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if files[name] = "/"; !entry.IsDir() {
			files[name] = readFile(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func renderInto(dir, config string) error {
	var stderr bytes.Buffer
	if code := run(context.Background(), []string{"render", "-f", "-", "-o", dir}, os.LookupEnv, strings.NewReader(config), io.Discard, &stderr); code != 0 {
		return errors.New(stderr.String())
	}
	return nil
}

// A failure after some files have taken their places is undone: the directory is as
// it was.
func TestADirectoryIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	changed := strings.ReplaceAll(runnersConfig, "acme", "changed") + "- {name: c, workspace: acme, labels: [z], namespace: third}\n"
	folder := func(path ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(append([]string{dir}, path...)...)
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(t *testing.T, dir string) {
		path := filepath.Join(dir, "other", "scaledjob-b.yaml")
		if err := os.Rename(path, filepath.Join(dir, "mine.yaml")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../mine.yaml", path); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		hinder func(*testing.T, string)
		want   string
	}{
		"a folder in the last one's place":  {folder("kustomization.yaml"), "kustomization.yaml: exists and is not a regular file"},
		"a folder in another's place":       {folder("other", "scaledjob-b.yaml"), "scaledjob-b.yaml: exists and is not a regular file"},
		"a link in a file's place":          {link, "scaledjob-b.yaml: exists and is not a regular file"},
		"a folder where a new file is made": {folder("third", "namespace.yaml"+staging), "is a directory"},
		"a folder where a copy is made":     {folder("kustomization.yaml" + saved), "is a directory"},
		"a file in a folder's place": {func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "third"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "third"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := renderInto(dir, runnersConfig); err != nil {
				t.Fatal(err)
			}
			test.hinder(t, dir)
			before := tree(t, dir)
			err := renderInto(dir, changed)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "the old one is") {
				t.Errorf("not taken back: %v", err)
			}
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("before -, after +:\n%s", diff)
			}
		})
	}
}

func TestADirectoryThatCannotBeFilledIsNotMade(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a", "out")
	r := &replacement{dir: dir}
	r.add("here/one.yaml", []byte("one"))
	r.add("here/one.yaml/two.yaml", []byte("two"))
	if err := r.write(); err == nil {
		t.Fatal("a file is a folder too, and no error")
	}
	if diff := cmp.Diff(map[string]string{".": "/"}, tree(t, parent)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestFilesOfTheUsersAreKeptOrNamed(t *testing.T) {
	dir := t.TempDir()
	mine := map[string]string{"README": "mine", "other/patch.yaml": "mine", "kustomization.yaml.old": "mine"}
	for name, text := range mine {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := renderInto(dir, runnersConfig); err != nil {
			t.Fatal(err)
		}
	}
	got := tree(t, dir)
	for name, text := range mine {
		if got[name] != text {
			t.Errorf("%s became %q", name, got[name])
		}
	}
	for name, text := range map[string]string{
		"other/namespace.yaml": "apiVersion: v1\nkind: Namespace\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t, dir)
	err := renderInto(dir, runnersConfig)
	if want := filepath.Join("other", "namespace.yaml") + ": was not written by"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Errorf("before -, after +:\n%s", diff)
	}
}
