package config

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"bitbucket-runner-scaler/jobfactory"
)

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// name returns the ScaledJob's name for the group's name, which may be any text.
func (e entry) name() string {
	text, ok := e.textOf("name")
	if !ok {
		if !e.given("name") {
			e.addMissing(e.node, e.at("name"), "a name for the group")
		}
		return ""
	}
	name := objectName(text)
	if name == "" || len(name) > jobfactory.MaxName {
		e.add(e.fields["name"], e.at("name"), text, fmt.Sprintf("a text with 1 to %d letters and digits", jobfactory.MaxName))
		return ""
	}
	return name
}

// objectName returns the name of an object for any text: "Runner group 1" becomes
// runner-group-1. It cuts nothing off, so that distinct names stay distinct: letters lose
// their accents, and for letters of other scripts there is a hash of the text.
func objectName(text string) string {
	var plain strings.Builder
	other := false
	for _, r := range norm.NFKD.String(strings.ToLower(text)) {
		switch {
		case unicode.Is(unicode.Mn, r): // an accent
		case r > unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			other = true
			plain.WriteByte('-')
		default:
			plain.WriteRune(r)
		}
	}
	name := strings.Trim(notInName.ReplaceAllString(plain.String(), "-"), "-")
	if !other {
		return name
	}
	if name == "" {
		name = "group"
	}
	return fmt.Sprintf("%s-%x", name, sha256.Sum256([]byte(text)))[:len(name)+1+8]
}
