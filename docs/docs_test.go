package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = ".."

var (
	code     = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	link     = regexp.MustCompile(`\]\(([^)#]+)`)
)

func TestDocsNameTestsThatExist(t *testing.T) {
	existing := map[string]bool{}
	for _, path := range goFiles(t) {
		if strings.HasSuffix(path, "_test.go") {
			for _, match := range testFunc.FindAllStringSubmatch(read(t, path), -1) {
				existing[match[1]] = true
			}
		}
	}
	named := 0
	for _, page := range allPages(t) {
		for _, word := range inCode(t, page) {
			if !testName.MatchString(word) {
				continue
			}
			named++
			if !existing[word] {
				t.Errorf("%s names %s, want a test that exists", page, word)
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test")
	}
}

func TestArchitectureNamesPathsThatExist(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range inCode(t, "architecture.md") {
		top, _, _ := strings.Cut(word, "/")
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == top }) {
			continue // not a path
		}
		if _, err := os.Stat(filepath.Join(root, word)); err != nil {
			t.Errorf("architecture.md: %v", err)
		}
	}
}

// The list of packages is complete for the main module. The other modules are tests.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	named := inCode(t, "architecture.md")
	missing := map[string]bool{}
	for _, path := range goFiles(t) {
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		top, _, _ := strings.Cut(filepath.ToSlash(dir), "/")
		if strings.HasSuffix(path, "_test.go") || top == "e2e" || top == "deploy" {
			continue
		}
		if !slices.Contains(named, filepath.ToSlash(dir)) && !missing[dir] {
			missing[dir] = true
			t.Errorf("architecture.md does not name package %s", dir)
		}
	}
}

func TestLinksOfDecisionsLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("decisions/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages %q, %v", pages, err)
	}
	index := read(t, "decisions/README.md")
	for _, page := range pages {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), match[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("decisions/README.md does not list %s", name)
		}
	}
}

// allPages returns all pages of this directory and below.
func allPages(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// inCode returns what a page has in backticks.
func inCode(t *testing.T, page string) []string {
	t.Helper()
	var words []string
	for _, match := range code.FindAllStringSubmatch(read(t, page), -1) {
		words = append(words, match[1])
	}
	return words
}

// goFiles returns the Go files of all modules of the repository, without what is built.
func goFiles(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "bin"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The words that users see in Events, and as kinds of problems and reasons.
var (
	eventReason = regexp.MustCompile(`(?m)^\s*(?:const )?(?:Reason\w+|stepNotServed|notPolled)\s*= "(\w+)"`)
	problemKind = regexp.MustCompile(`(?:kind\w*\s*= |Kind: |queue\.Held\w+: |api\.Severity\w+, )"([A-Z]\w+)"`)
)

func TestEveryEventIsInTheTable(t *testing.T) {
	explained(t, "observe.md", eventReason, 20, "externalscaler/reaper/reasons.go", "externalscaler/controlplane/unserved.go", "externalscaler/controlplane/pollrestart.go")
	explained(t, "observe.md", regexp.MustCompile(`"([A-Z]\w+)": true`), 7, "externalscaler/controlplane/problems.go")
}

func TestEveryKindOfProblemIsExplained(t *testing.T) {
	explained(t, "troubleshoot.md", problemKind, 25, "externalscaler/status/view/why.go", "externalscaler/status/view/step.go", "externalscaler/status/view/problem.go")
}

// explained checks that a page has each word that a pattern finds in files.
func explained(t *testing.T, page string, pattern *regexp.Regexp, least int, files ...string) {
	t.Helper()
	text, found := read(t, page), 0
	for _, file := range files {
		for _, match := range pattern.FindAllStringSubmatch(read(t, filepath.Join(root, file)), -1) {
			if found++; !strings.Contains(text, "`"+match[1]+"`") {
				t.Errorf("%s has no %s", page, match[1])
			}
		}
	}
	if found < least {
		t.Errorf("%d words of %s were found in the code, want at least %d", found, page, least)
	}
}
