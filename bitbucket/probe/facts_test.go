package probe

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table in docs/facts.md again")

const page = "../../docs/facts.md"

func TestDocsHaveTheTableOfTheFacts(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	found := regexp.MustCompile(`(?s)(<!-- facts: begin[^\n]*-->\n)(.*?)(<!-- facts: end -->\n)`).FindStringSubmatchIndex(text)
	if found == nil {
		t.Fatal("docs/facts.md has no place for the table: <!-- facts: begin … --> and <!-- facts: end -->")
	}
	if *update {
		if err := os.WriteFile(page, []byte(text[:found[4]]+Markdown()+text[found[5]:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(Markdown(), text[found[4]:found[5]]); diff != "" {
		t.Errorf("go test ./bitbucket/probe -update writes it; want -, got +:\n%s", diff)
	}
}

func TestEveryFactIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, fact := range Facts() {
		if fact.Key == "" || fact.Claim == "" || fact.Basis == "" || fact.Scaler == "" || seen[fact.Key] {
			t.Errorf("%+v", fact)
		}
		seen[fact.Key] = true
		if fact.Look == LookNone && fact.Hidden == "" {
			t.Errorf("%s: has neither a check nor a reason for none", fact.Key)
		}
		if strings.ContainsAny(fact.Claim+fact.Scaler, "|\n") {
			t.Errorf("%s: does not fit a table", fact.Key)
		}
	}
}
