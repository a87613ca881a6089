package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bitbucket-runner-scaler/jobfactory/config"
)

// pages returns the texts of the documentation by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	var paths []string
	for _, pattern := range []string{"../../docs/*.md", "../../*.md", "../../deploy/*.md", "../../deploy/chart/*.md", "../../deploy/artifacthub/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d pages, %v", pattern, len(found), err)
		}
		paths = append(paths, found...)
	}
	all := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	return all
}

var (
	block = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
	link  = regexp.MustCompile(`\]\(([^)]+)\)`)
	title = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestDocumentedConfigurationsAreAccepted(t *testing.T) {
	found := 0
	for path, text := range pages(t) {
		for _, match := range block.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(match[1], "groups:") {
				continue
			}
			found++
			if _, err := config.Read([]byte(match[1])); err != nil {
				t.Errorf("%s: %v\n%s", path, err, match[1])
			}
		}
	}
	if found == 0 {
		t.Error("no configuration found")
	}
}

func TestLinksInTheDocumentationAreNotBroken(t *testing.T) {
	all := pages(t)
	for path, text := range all {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(match[1], "://") {
				continue
			}
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", path, match[1], err)
			} else if anchor != "" && !hasTitle(all[to], anchor) {
				t.Errorf("%s: %s: no such title", path, match[1])
			}
		}
	}
}

// hasTitle reports whether a page has a title with this anchor.
func hasTitle(page, anchor string) bool {
	for _, match := range title.FindAllStringSubmatch(page, -1) {
		words := strings.Fields(strings.ToLower(strings.NewReplacer("`", "", "'", "", ",", "", ":", "").Replace(match[1])))
		if strings.Join(words, "-") == anchor {
			return true
		}
	}
	return false
}
