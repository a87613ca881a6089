package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is the result of a check for a fact.
type Verdict string

// The verdicts.
const (
	Holds       Verdict = "holds"
	DoesNotHold Verdict = "does not hold"
	NotSeen     Verdict = "could not be seen"
)

// Finding is what was found out about one fact.
type Finding struct {
	Fact
	Verdict Verdict `json:"verdict"`
	// Found is Bitbucket's answer in a few words, never with a secret.
	Found string `json:"found"`
}

// Report is the result of Live.
type Report struct {
	Workspace   string `json:"workspace"`
	Repository  string `json:"repository,omitempty"`
	Credentials string `json:"credentials"`
	// Runner is the temporary runner's name. The names of further ones begin with it.
	Runner   string    `json:"runner"`
	Findings []Finding `json:"findings"`
	// Stopped is why the check ended early. It is empty if it did not.
	Stopped string `json:"stopped,omitempty"`
	// Left are the runners of this check that could not be deleted, or that may exist.
	// The user must delete them.
	Left []string `json:"left,omitempty"`
	// Earlier are runners that an earlier check has probably left.
	Earlier []string      `json:"earlier,omitempty"`
	Calls   int           `json:"calls"`
	Took    time.Duration `json:"took_ns"`
}

// Count returns how many findings have a verdict.
func (r Report) Count(verdict Verdict) int {
	n := 0
	for _, finding := range r.Findings {
		if finding.Verdict == verdict {
			n++
		}
	}
	return n
}

// notebook collects findings. It keeps the first of each fact.
type notebook struct {
	findings map[string]Finding
	// secrets are removed from every text.
	secrets []string
}

func (n *notebook) note(key string, verdict Verdict, format string, args ...any) {
	if _, found := n.findings[key]; found {
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

// fill returns a finding for every fact of the given checks, in order. Facts without one
// get the verdict NotSeen with the given reason.
func (n *notebook) fill(reason string, looks ...Look) []Finding {
	var all []Finding
	for _, fact := range Facts() {
		if !slices.Contains(looks, fact.Look) {
			continue
		}
		finding, found := n.findings[fact.Key]
		if !found {
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

// Conclude returns a finding for every fact of one check, in order. Facts without one in
// the map get the verdict NotSeen with the given reason.
func Conclude(look Look, found map[string]Finding, reason string) []Finding {
	n := notebook{findings: found}
	return n.fill(reason, look)
}

// notReached is the reason if no better one is known.
const notReached = "not checked"
