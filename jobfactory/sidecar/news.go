package sidecar

import (
	"regexp"
	"time"
)

// sayAgain is how long the same answer is not logged again.
const sayAgain = 10 * time.Minute

// maxNews bounds the answers that are remembered.
const maxNews = 32

// news tells which answers are worth a line in the log: those that were not logged for a
// while. A sidecar that waits asks every few seconds and mostly gets the same answer.
type news struct{ said map[string]time.Time }

// counted are the words of an answer that contain a number, such as how long to wait.
var counted = regexp.MustCompile(`\S*\d\S*`)

// is reports whether an answer is news, and remembers it. Answers that differ in their
// numbers are the same.
func (n *news) is(answer string, now time.Time) bool {
	answer = counted.ReplaceAllString(answer, "#")
	if last, said := n.said[answer]; said && now.Sub(last) < sayAgain {
		return false
	}
	if n.said == nil || len(n.said) >= maxNews {
		n.said = map[string]time.Time{}
	}
	n.said[answer] = now
	return true
}
