package definition_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bitbucket-runner-scaler/bitbucket/emulator/definition"
	"bitbucket-runner-scaler/bitbucket/pipelines"
)

// folder has the files of the corpus as the file that is imported from.
type folder string

func (f folder) Read(repository, _, _ string) ([]byte, bool) {
	if repository != "" {
		return nil, false
	}
	data, err := os.ReadFile(filepath.Join(string(f), "exported.yml"))
	return data, err == nil
}

// TestBothReadTheCorpusAlike reads the files of package pipelines, whose answers were worked out
// by hand. What is unknown there may be anything here.
func TestBothReadTheCorpusAlike(t *testing.T) {
	t.Parallel()
	const corpus = "../../pipelines/testdata/corpus"
	paths, err := filepath.Glob(corpus + "/*.yml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	compared := 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := pipelines.Parse(data)
		if err != nil {
			continue // Bitbucket refuses it
		}
		for _, imported := range theirs.Imports() {
			exported, _ := folder(corpus).Read("", "", imported)
			other, err := pipelines.Parse(exported)
			if err != nil {
				t.Fatal(err)
			}
			theirs = theirs.With(imported, other)
		}
		ours, err := definition.Parse(data, folder(corpus))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		for _, selector := range theirs.Selectors() {
			want := theirs.Select(selector)
			if want.Unknown != "" || slices.ContainsFunc(want.Steps, func(st pipelines.Step) bool { return st.Failure == pipelines.OtherStrategy }) {
				continue
			}
			got, err := ours.Pipeline(definition.Wanted{Selector: definition.Selector{Type: selector.Type, Pattern: selector.Pattern}})
			if err != nil {
				t.Errorf("%s %s: %v", path, selector, err)
				continue
			}
			compared++
			if len(got.Steps) != len(want.Steps) {
				t.Errorf("%s %s: %d steps, want %d", path, selector, len(got.Steps), len(want.Steps))
				continue
			}
			for i, st := range want.Steps {
				compare(t, filepath.Base(path)+" "+selector.String(), want, st, got.Steps[i], got.Groups)
			}
		}
	}
	if compared < 70 {
		t.Errorf("compared only %d pipelines", compared)
	}
}

func compare(t *testing.T, where string, in pipelines.Pipeline, want pipelines.Step, got definition.Step, groups []definition.Group) {
	t.Helper()
	byHand, conditional := got.Manual, got.When != nil
	for _, g := range got.Groups {
		byHand = byHand || groups[g].Manual && slices.Contains(groups[g].First, want.Index)
		conditional = conditional || groups[g].When != nil
	}
	locks := []string{}
	for _, l := range got.Locks {
		if l.Group < 0 {
			locks = append(locks, l.Name)
		}
	}
	wantLocks := []string{}
	if want.Deployment != "" {
		wantLocks = append(wantLocks, "deployment "+want.Deployment)
	}
	if want.ConcurrencyGroup != "" {
		wantLocks = append(wantLocks, "concurrency-group "+want.ConcurrencyGroup)
	}
	after := got.After
	if want.Final { // the emulator's final step comes after all, the model's after the last
		after = in.Predecessors(want.Index)
	}
	switch {
	case got.Name != want.Name || got.Final != want.Final || got.Child != want.ChildName:
		t.Errorf("%s: step %d is %q, final %v, child %q; want %+v", where, want.Index, got.Name, got.Final, got.Child, want)
	case want.Unknown == "" && !slices.Equal(got.Labels, []string(want.Labels)):
		t.Errorf("%s %s: labels %q, want %q", where, want.Title(), got.Labels, want.Labels)
	case byHand != want.FromHand || conditional != want.Conditional:
		t.Errorf("%s %s: by hand %v, conditional %v, want %v, %v", where, want.Title(), byHand, conditional, want.FromHand, want.Conditional)
	case !slices.Equal(locks, wantLocks):
		t.Errorf("%s %s: locks %q, want %q", where, want.Title(), locks, wantLocks)
	case got.Failure.Ignore != (want.Failure == pipelines.Ignore) || want.Failure == pipelines.Retry && got.Failure.Retries != want.MaxRetries:
		t.Errorf("%s %s: after a failure %+v, want %v %d", where, want.Title(), got.Failure, want.Failure, want.MaxRetries)
	case strings.Contains(where, "parallel") && (got.Stops >= 0) != want.FailFast:
		t.Errorf("%s %s: stops group %d, want %v", where, want.Title(), got.Stops, want.FailFast)
	case !slices.Equal(slices.Sorted(slices.Values(after)), slices.Sorted(slices.Values(in.Predecessors(want.Index)))):
		t.Errorf("%s %s: comes after %v, want %v", where, want.Title(), after, in.Predecessors(want.Index))
	}
}
