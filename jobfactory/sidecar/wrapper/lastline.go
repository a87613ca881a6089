package wrapper

import (
	"bytes"
	"crypto/sha256"
	"regexp"
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
)

// lastLine keeps the last line of the runner's output, for the report of its end. It is
// safe for concurrent use.
type lastLine struct {
	// secrets are fingerprints of the values that must not be reported. The values
	// themselves are not kept.
	secrets []fingerprint

	mu   sync.Mutex
	line []byte
}

// fingerprint recognizes a text without containing it.
type fingerprint struct {
	length int
	sum    [sha256.Size]byte
}

// wellKnown are variables of every container, which contain no secret.
var wellKnown = map[string]bool{"PATH": true, "PWD": true, "OLDPWD": true, "HOME": true, "HOSTNAME": true, "JAVA_HOME": true, "SIDECAR_DIR": true, "WORKING_DIRECTORY": true}

// newLastLine returns a lastLine that never reports a value of this environment.
func newLastLine(environment []string) *lastLine {
	l := &lastLine{}
	for _, entry := range environment {
		if name, value, _ := strings.Cut(entry, "="); len(value) >= minSecret && !wellKnown[name] {
			l.secrets = append(l.secrets, fingerprint{len(value), sha256.Sum256([]byte(value))})
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
	line := bytes.Clone(l.line)
	for _, secret := range l.secrets {
		line = secret.redact(line)
	}
	text := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(line))
	text = userInfo.ReplaceAllString(longWord.ReplaceAllString(text, redacted), "//"+redacted+"@")
	if text = strings.TrimSpace(text); len(text) > maxLastLine {
		text = strings.ToValidUTF8(text[:maxLastLine], "")
	}
	return text
}

// redact removes the text of the fingerprint from a line.
func (f fingerprint) redact(line []byte) []byte {
	for i := 0; i+f.length <= len(line); i++ {
		if sha256.Sum256(line[i:i+f.length]) == f.sum {
			line = append(append(bytes.Clone(line[:i]), redacted...), line[i+f.length:]...)
			i += len(redacted) - 1
		}
	}
	return line
}
