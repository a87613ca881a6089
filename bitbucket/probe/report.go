package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what a look says of a fact.
type Verdict string

// The verdicts.
const (
	Holds       Verdict = "holds"
	DoesNotHold Verdict = "does not hold"
	NotSeen     Verdict = "could not be seen"
)

// Finding is what was found of one fact.
type Finding struct {
	Fact
	Verdict Verdict `json:"verdict"`
	// Found is what Bitbucket answered, in a few words, never with a secret.
	Found string `json:"found"`
}

// Report is what Live found.
type Report struct {
	Workspace   string `json:"workspace"`
	Repository  string `json:"repository,omitempty"`
	Credentials string `json:"credentials"`
	// Runner is the throw-away runner's name; names of others begin with it.
	Runner   string    `json:"runner"`
	Findings []Finding `json:"findings"`
	// Stopped is why the look ended early; empty if it did not.
	Stopped string `json:"stopped,omitempty"`
	// Left are the runners of this look that could not be deleted, or may be there:
	// whoever started it must look after them.
	Left []string `json:"left,omitempty"`
	// Earlier are runners that an earlier look seems to have left behind.
	Earlier []string      `json:"earlier,omitempty"`
	Calls   int           `json:"calls"`
	Took    time.Duration `json:"took_ns"`
}

// Count is how many findings have a verdict.
func (r Report) Count(verdict Verdict) int {
	n := 0
	for _, finding := range r.Findings {
		if finding.Verdict == verdict {
			n++
		}
	}
	return n
}

// notebook collects findings, each fact's once, the first that is told.
type notebook struct {
	findings map[string]Finding
	// secrets are taken out of every text.
	secrets []string
}

func (n *notebook) note(key string, verdict Verdict, format string, args ...any) {
	if _, told := n.findings[key]; told {
		return
	}
	if n.findings == nil {
		n.findings = map[string]Finding{}
	}
	n.findings[key] = Finding{Verdict: verdict, Found: n.clean(fmt.Sprintf(format, args...))}
}

func (n *notebook) clean(text string) string {
	for _, secret := range n.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	return text
}

// fill gives every fact of the given looks its finding, in order; those without one
// could not be seen, for the reason given.
func (n *notebook) fill(reason string, looks ...Look) []Finding {
	var all []Finding
	for _, fact := range Facts() {
		if !slices.Contains(looks, fact.Look) {
			continue
		}
		finding, told := n.findings[fact.Key]
		if !told {
			finding = Finding{Verdict: NotSeen, Found: reason}
			if fact.Hidden != "" && reason == notReached {
				finding.Found = fact.Hidden
			}
		}
		finding.Fact = fact
		all = append(all, finding)
	}
	return all
}

// Conclude gives the facts of one look their findings, by key, in order; those
// without one could not be seen, for the reason given.
func Conclude(look Look, found map[string]Finding, reason string) []Finding {
	n := notebook{findings: found}
	return n.fill(reason, look)
}

// notReached is why nothing was found where no better reason is known.
const notReached = "not looked at"
