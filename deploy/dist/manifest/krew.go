package manifest

import (
	"fmt"
	"regexp"
	"strings"
)

// Download says where the archives of a release are. SHA256 has their checksums by os-arch.
type Download struct {
	Version, Homepage, URL string
	SHA256                 map[string]string
}

// placeholder is what deploy/krew has for a release.
var placeholder = regexp.MustCompile(`\b(VERSION|HOMEPAGE|URL|SHA256-[a-z0-9]+-[a-z0-9]+)\b`)

// Krew fills in the manifest of the kubectl plugin. Its first lines, a comment about the
// placeholders, are left out.
func Krew(template []byte, d Download) ([]byte, error) {
	text := string(template)
	for strings.HasPrefix(text, "#") {
		_, text, _ = strings.Cut(text, "\n")
	}
	var missing []string
	text = placeholder.ReplaceAllStringFunc(text, func(word string) string {
		switch word {
		case "VERSION":
			return d.Version
		case "HOMEPAGE":
			return d.Homepage
		case "URL":
			return d.URL
		}
		sum, ok := d.SHA256[strings.TrimPrefix(word, "SHA256-")]
		if !ok {
			missing = append(missing, word)
		}
		return sum
	})
	if missing != nil {
		return nil, fmt.Errorf("krew manifest: no archive for %s", strings.Join(missing, ", "))
	}
	return []byte(text), nil
}
