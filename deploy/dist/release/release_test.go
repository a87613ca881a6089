package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const changelog = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-26\n\n### Added\n\n## [1.1.0] - 2026-10-01\n"

// run runs git in a repository that knows no configuration of the machine.
func run(t *testing.T, root string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// repository returns a clone with one commit, and the request for the release of it.
func repository(t *testing.T) Request {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "CHANGELOG.md"), []byte(changelog), 0o644); err != nil {
		t.Fatal(err)
	}
	write(t, &Request{Root: root}, "deploy/kept.yaml")
	run(t, root, "init", "-q")
	run(t, root, "add", ".")
	run(t, root, "commit", "-q", "-m", "first")
	return Request{Root: root, Version: "v1.2.0", Commit: run(t, root, "rev-parse", "HEAD"), Date: run(t, root, "log", "-1", "--format=%cI")}
}

func TestWhatMayBeReleased(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, *Request)
		want   []string // in the error; none if it may be released
	}{
		"the version of the changelog":     {func(*testing.T, *Request) {}, nil},
		"no leading v":                     {func(_ *testing.T, q *Request) { q.Version = "1.2.0" }, []string{`-version: got "1.2.0", want SemVer with a leading v`}},
		"not three numbers":                {func(_ *testing.T, q *Request) { q.Version = "v1.2" }, []string{`-version: got "v1.2"`}},
		"a word":                           {func(_ *testing.T, q *Request) { q.Version = "latest" }, []string{`-version: got "latest"`}},
		"none":                             {func(_ *testing.T, q *Request) { q.Version = "" }, []string{`-version: got ""`}},
		"build metadata":                   {func(_ *testing.T, q *Request) { q.Version = "v1.2.0+linux" }, []string{`-version: got "v1.2.0+linux"`, "without build metadata"}},
		"not in the changelog":             {func(_ *testing.T, q *Request) { q.Version = "v1.3.0" }, []string{`-version: got v1.3.0`, `CHANGELOG.md, which is "1.2.0"`}},
		"older than the changelog":         {func(_ *testing.T, q *Request) { q.Version = "v1.1.0" }, []string{`-version: got v1.1.0`}},
		"no date":                          {func(_ *testing.T, q *Request) { q.Date = "" }, []string{`-commit and -date: got `}},
		"another commit":                   {func(_ *testing.T, q *Request) { q.Commit = strings.Repeat("a", 40) }, []string{"-commit: got aaaa"}},
		"a changed file":                   {change, []string{"the tree differs from its commit", "CHANGELOG.md"}},
		"a file that is not in git":        {add, []string{"the tree differs from its commit", "deploy/new.yaml"}},
		"a folder that is not in git":      {func(t *testing.T, q *Request) { write(t, q, "deploy/chart/new.yaml") }, []string{"deploy/chart/"}},
		"a workspace of Go":                {func(t *testing.T, q *Request) { write(t, q, "go.work") }, []string{"go.work"}},
		"modules that Go would prefer":     {func(t *testing.T, q *Request) { write(t, q, "vendor/modules.txt") }, []string{"vendor/"}},
		"a user's own files":               {func(t *testing.T, q *Request) { write(t, q, "values.yaml"); write(t, q, "my groups/a.yaml") }, nil},
		"its tag":                          {func(t *testing.T, q *Request) { run(t, q.Root, "tag", "v1.2.0") }, nil},
		"another tag too":                  {func(t *testing.T, q *Request) { run(t, q.Root, "tag", "v1.2.0"); run(t, q.Root, "tag", "v1.2.0-rc.1") }, nil},
		"a tag that is no version":         {func(t *testing.T, q *Request) { run(t, q.Root, "tag", "nightly") }, nil},
		"only the tag of another version":  {func(t *testing.T, q *Request) { run(t, q.Root, "tag", "v1.2.1") }, []string{"-version: got v1.2.0, want a tag of the commit, which has v1.2.1"}},
		"all faults at once":               {func(t *testing.T, q *Request) { add(t, q); q.Version = "v9.0.0" }, []string{"the tree differs", "CHANGELOG.md, which is"}},
		"a snapshot of a changed tree":     {func(t *testing.T, q *Request) { change(t, q); q.Version, q.Snapshot = "v9.0.0-snapshot", true }, nil},
		"a snapshot that looks released":   {func(_ *testing.T, q *Request) { q.Snapshot = true }, []string{`-version: got "v1.2.0", want a pre-release such as v1.2.0-snapshot with -snapshot`}},
		"an unpacked archive, without git": {func(t *testing.T, q *Request) { remove(t, filepath.Join(q.Root, ".git")) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := repository(t)
			c.change(t, &q)
			r, err := Check(t.Context(), q)
			if (err == nil) != (c.want == nil) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
			if err == nil && (r.Version != q.Version || r.Commit != q.Commit || r.Date.Format(time.RFC3339) == "" || r.Date.Location() != time.UTC) {
				t.Errorf("release %+v", r)
			}
		})
	}
}

func change(t *testing.T, q *Request) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(q.Root, "CHANGELOG.md"), []byte(changelog+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, q *Request) {
	t.Helper()
	write(t, q, "deploy/new.yaml")
}

func write(t *testing.T, q *Request, name string) {
	t.Helper()
	path := filepath.Join(q.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// Users find out from the changelog what the chart that they have changes.
func TestTheNewestVersionOfTheChangelogIsThatOfTheChart(t *testing.T) {
	text, err := os.ReadFile("../../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := os.ReadFile("../../chart/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	newest := Newest(string(text))
	if newest == "" || !strings.Contains("\n"+string(chart), "\nversion: "+newest+"\n") {
		t.Errorf("the newest version of CHANGELOG.md is %q, want that of\n%s", newest, chart)
	}
}
