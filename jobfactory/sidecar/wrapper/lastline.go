package wrapper

import (
	"bytes"
	"crypto/sha256"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

const (
	// maxLastLine bounds the last line that is reported, in bytes.
	maxLastLine = 200
	// minSecret is the length from which the value of a variable may be a secret.
	minSecret = 8
	redacted  = "[redacted]"
	// withheld replaces a line that contains a value: what else is in it may be another
	// part of the same secret.
	withheld = "[a line with a value of the environment]"
)

// lastLine keeps the last line of the runner's output, for the report of its end. It is
// safe for concurrent use.
type lastLine struct {
	// secrets are the SHA-256 sums of the texts that must not be reported, by their
	// length. The texts themselves are not kept.
	secrets map[int]map[[sha256.Size]byte]bool

	mu   sync.Mutex
	line []byte
}

// wellKnown are variables of every container, which contain no secret.
var wellKnown = map[string]bool{"PATH": true, "PWD": true, "OLDPWD": true, "HOME": true, "HOSTNAME": true, "JAVA_HOME": true, "SIDECAR_DIR": true, "WORKING_DIRECTORY": true}

// newLastLine returns a lastLine that never reports a value of this environment, or a
// line of one.
func newLastLine(environment []string) *lastLine {
	l := &lastLine{secrets: map[int]map[[sha256.Size]byte]bool{}}
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		if wellKnown[name] {
			continue
		}
		for part := range strings.Lines(value) {
			part = strings.TrimSpace(part)
			if len(part) < minSecret {
				continue
			}
			if l.secrets[len(part)] == nil {
				l.secrets[len(part)] = map[[sha256.Size]byte]bool{}
			}
			l.secrets[len(part)][sha256.Sum256([]byte(part))] = true
		}
	}
	return l
}

// keep takes a line of the output. Empty lines are ignored.
func (l *lastLine) keep(line []byte) {
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = append(l.line[:0], line...)
}

// What looks like a secret: long words, and the user information of a URL.
var (
	longWord = regexp.MustCompile(`[A-Za-z0-9+/_=.-]*[A-Za-z0-9+_=-]{32,}[A-Za-z0-9+/_=.-]*`)
	userInfo = regexp.MustCompile(`//[^/@\s]+@`)
)

// text returns the line without secrets, bounded. A line that was cut off is left out,
// because a part of a secret is not recognized.
func (l *lastLine) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line) >= maxLine {
		return ""
	}
	if l.hasSecret() {
		return withheld
	}
	text := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(l.line))
	text = userInfo.ReplaceAllString(longWord.ReplaceAllString(text, redacted), "//"+redacted+"@")
	if text = strings.TrimSpace(text); len(text) > maxLastLine {
		text = strings.ToValidUTF8(text[:maxLastLine], "")
	}
	return text
}

// Escapes of URLs, and of JSON and quoted strings.
var (
	percentEscape   = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	backslashEscape = regexp.MustCompile(`\\(u[0-9A-Fa-f]{4}|.)`)
)

// hasSecret reports whether the line contains a secret, as it is or escaped.
func (l *lastLine) hasSecret() bool {
	byCode := func(escape []byte) []byte {
		code, _ := strconv.ParseUint(string(escape[1:]), 16, 8) // it is two hexadecimal digits
		return []byte{byte(code)}
	}
	unescaped := percentEscape.ReplaceAllFunc(l.line, byCode)
	spaced := percentEscape.ReplaceAllFunc(bytes.ReplaceAll(l.line, []byte("+"), []byte(" ")), byCode)
	unquoted := backslashEscape.ReplaceAllFunc(l.line, func(escape []byte) []byte {
		if r, _, _, err := strconv.UnquoteChar(string(escape), '"'); err == nil {
			return []byte(string(r))
		}
		return escape[1:]
	})
	return l.contains(l.line) || l.contains(unescaped) || l.contains(spaced) || l.contains(unquoted)
}

// contains reports whether one of the secrets is in a text.
func (l *lastLine) contains(text []byte) bool {
	for length, sums := range l.secrets {
		for i := 0; i+length <= len(text); i++ {
			if sums[sha256.Sum256(text[i:i+length])] {
				return true
			}
		}
	}
	return false
}
