// Package release says what may be released: it checks the version against the tree, its tags and
// the changelog. It changes nothing.
package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Release is what a distribution is made of.
type Release struct {
	Version string // SemVer with a leading v
	Commit  string // 40 hexadecimal digits
	Date    time.Time
}

// Number returns the version without the leading v, as charts and changelogs write it.
func (r Release) Number() string { return strings.TrimPrefix(r.Version, "v") }

// Request is what the user asks for. Commit and Date are the commit's if there is no git, as in an
// unpacked source archive; else they are empty or must be those of HEAD.
type Request struct {
	Root         string // of the repository
	Version      string
	Commit, Date string
	Snapshot     bool // not meant to be published: the tree, the tags and the changelog are not checked
}

// Check returns the release, or all reasons why there must not be one.
func Check(ctx context.Context, q Request) (Release, error) {
	faults := []error{checkVersion(q.Version, q.Snapshot)}
	r := Release{Version: q.Version, Commit: q.Commit}
	at, err := time.Parse(time.RFC3339, q.Date)
	if err != nil || q.Commit == "" {
		faults = append(faults, fmt.Errorf("-commit and -date: got %q and %q, want the commit and its date, such as 2026-11-26T12:00:00+01:00; make takes them from git, or from COMMIT= and DATE=", q.Commit, q.Date))
	}
	r.Date = at.UTC()
	if !q.Snapshot && faults[0] == nil {
		faults = append(faults, checkChangelog(q.Root, r.Number()))
		if _, err := os.Stat(filepath.Join(q.Root, ".git")); err == nil {
			faults = append(faults, checkTree(ctx, q)...)
		}
	}
	return r, errors.Join(faults...)
}

// checkVersion refuses what is not SemVer, and build metadata, which tags of images cannot have.
func checkVersion(version string, snapshot bool) error {
	const accepted = "want SemVer with a leading v and without build metadata, such as v0.1.0 or v0.2.0-rc.1"
	switch {
	case !semver.IsValid(version) || semver.Canonical(version) != version:
		return fmt.Errorf("-version: got %q, %s", version, accepted)
	case snapshot && semver.Prerelease(version) == "":
		return fmt.Errorf("-version: got %q, want a pre-release such as %s-snapshot with -snapshot, so that nobody takes it for the release", version, version)
	}
	return nil
}

var heading = regexp.MustCompile(`(?m)^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?\s*$`)

// Newest returns the newest version of a changelog in the format of Keep a Changelog, without
// Unreleased, or "" if it has none.
func Newest(changelog string) string {
	for _, match := range heading.FindAllStringSubmatch(changelog, -1) {
		if match[1] != "Unreleased" {
			return match[1]
		}
	}
	return ""
}

// checkChangelog wants the version to be the newest one of the changelog.
func checkChangelog(root, number string) error {
	text, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md"))
	if err != nil {
		return fmt.Errorf("read the changelog: %w", err)
	}
	if newest := Newest(string(text)); newest != number {
		return fmt.Errorf("-version: got v%s, want the newest version in CHANGELOG.md, which is %q; write its section first, or try a build with -snapshot (SNAPSHOT=1 of make) and a pre-release such as v%[1]s-try", number, newest)
	}
	return nil
}

// checkTree wants HEAD to be the commit, without changes, and with the tag of the version if it has any.
func checkTree(ctx context.Context, q Request) []error {
	head, err := git(ctx, q.Root, "rev-parse", "HEAD")
	if err != nil {
		return []error{err}
	}
	changes, err := changes(ctx, q.Root)
	if err != nil {
		return []error{err}
	}
	tags, err := git(ctx, q.Root, "tag", "--points-at", "HEAD")
	if err != nil {
		return []error{err}
	}
	var faults []error
	if head != q.Commit {
		faults = append(faults, fmt.Errorf("-commit: got %s, want that of the tree, %s", q.Commit, head))
	}
	if len(changes) > 0 {
		faults = append(faults, fmt.Errorf("the tree differs from its commit, so nobody could build the same; commit or remove these, or try a build with -snapshot (SNAPSHOT=1 of make) and a pre-release such as %s-try:\n%s", q.Version, strings.Join(changes, "\n")))
	}
	versions := slices.DeleteFunc(strings.Fields(tags), func(tag string) bool { return !semver.IsValid(tag) })
	if len(versions) > 0 && !slices.Contains(versions, q.Version) {
		faults = append(faults, fmt.Errorf("-version: got %s, want a tag of the commit, which has %s", q.Version, strings.Join(versions, ", ")))
	}
	return faults
}

// changes returns how the tree differs from its commit, in git's short form, without what can be in no
// file of a release: new files and folders beside those of the project, such as a user's values.
func changes(ctx context.Context, root string) ([]string, error) {
	status, err := git(ctx, root, "status", "--porcelain", "--untracked-files=normal")
	if err != nil || status == "" {
		return nil, err
	}
	return slices.DeleteFunc(strings.Split(status, "\n"), func(line string) bool {
		name, untracked := strings.CutPrefix(line, "?? ")
		inside := strings.Contains(strings.TrimSuffix(strings.Trim(name, `"`), "/"), "/") // with a space it is quoted
		return untracked && !inside && !slices.Contains(readByGo, name)
	}), nil
}

// readByGo is what Go reads beside the packages, if it is there.
var readByGo = []string{"go.work", "go.work.sum", "vendor/"}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", root}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
