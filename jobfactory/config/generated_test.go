package config_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
	"bitbucket-runner-scaler/jobfactory/lint"
)

// generated is the number of good and of bad files that the tests read.
const generated = 250

// faultsOf returns the faults that an error of Read joins.
func faultsOf(t *testing.T, err error) []*jobfactory.ConfigError {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // Read joins errors and does not wrap the result
	if !ok {
		t.Fatalf("got %v, want joined faults", err)
	}
	var faults []*jobfactory.ConfigError
	for _, err := range joined.Unwrap() {
		var fault *jobfactory.ConfigError
		if !errors.As(err, &fault) {
			t.Fatalf("got %v, want a ConfigError", err)
		}
		faults = append(faults, fault)
	}
	return faults
}

// Each fault is reported with its path and its value, and no consequence of a fault is
// reported.
func TestGeneratedBadConfigurationsGetExactlyTheirFaults(t *testing.T) {
	for seed := range uint64(generated) {
		file := configtest.Bad(seed)
		_, err := config.Read(file.YAML)
		if err == nil {
			t.Errorf("seed %d: accepted with %v\n%s", seed, file.Faults, file.YAML)
			continue
		}
		_, again := config.Read(file.YAML)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("seed %d: reported differently the second time: %v, then %v", seed, err, again)
		}
		input := &lint.Input{}
		input.Read("runners_config.yaml", file.YAML)
		found := lint.Check(input, lint.DefaultOptions())
		reported := faultsOf(t, err)
		for _, planted := range file.Faults {
			i := slices.IndexFunc(reported, func(f *jobfactory.ConfigError) bool {
				return f.Path == planted.Path && (planted.Given == "" || f.Given == strconv.Quote(planted.Given))
			})
			if i < 0 {
				t.Errorf("seed %d: not reported: %v\ngot: %v\n%s", seed, planted, err, file.YAML)
				continue
			}
			if reported[i].Line == 0 || reported[i].Accepted == "" {
				t.Errorf("seed %d: without a line, or without what is accepted: %v", seed, reported[i])
			}
			reported = slices.Delete(reported, i, i+1)
			if !slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Severity == lint.Error && f.Path == planted.Path && f.Line > 0 }) {
				t.Errorf("seed %d: lint does not find: %v\ngot: %+v\n%s", seed, planted, found, file.YAML)
			}
		}
		for _, fault := range reported {
			t.Errorf("seed %d: reported besides %v: %v\n%s", seed, file.Faults, fault, file.YAML)
		}
	}
}

func TestGeneratedGoodConfigurationsPassSchemaAndLint(t *testing.T) {
	schema := compiled(t)
	for seed := range uint64(generated) {
		file := configtest.Good(seed)
		if err := schema.Validate(instance(t, file.YAML)); err != nil {
			t.Errorf("seed %d: the JSON Schema refuses it: %v\n%s", seed, err, file.YAML)
		}
		manifests := renderData(t, file.YAML)
		if !bytes.Equal(manifests, renderData(t, file.YAML)) {
			t.Errorf("seed %d: rendered differently the second time\n%s", seed, file.YAML)
		}
		input := &lint.Input{}
		input.Read("runners_config.yaml", file.YAML)
		input.Read("manifests.yaml", manifests)
		for _, finding := range lint.Check(input, lint.DefaultOptions()) {
			if finding.Severity == lint.Error {
				t.Errorf("seed %d: lint finds an error in a good file: %+v\n%s", seed, finding, file.YAML)
			}
		}
	}
}

// However a generated file is changed, it is either refused or rendered, with the same
// result each time.
func FuzzGeneratedConfigurations(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed, uint(0), "")
		f.Add(seed, uint(100*seed), "~")
		f.Add(seed, uint(70*seed), " [")
	}
	f.Fuzz(func(t *testing.T, seed uint64, at uint, piece string) {
		for _, file := range []configtest.File{configtest.Good(seed), configtest.Bad(seed)} {
			data := file.YAML
			if len(piece) > 0 {
				at := int(at % uint(len(data)))
				data = slices.Concat(data[:at], []byte(piece), data[min(at+len(piece), len(data)):])
			}
			content, err := config.Read(data)
			again, errAgain := config.Read(data)
			if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
				t.Fatalf("%v, then %v", err, errAgain)
			}
			if diff := cmp.Diff(content, again); diff != "" {
				t.Fatalf("first -, second +:\n%s", diff)
			}
			switch {
			case err != nil && len(content.Groups)+len(content.Notes) > 0:
				t.Fatalf("refused with a result: %v", err)
			case err != nil && piece == "" && len(file.Faults) == 0:
				t.Fatalf("refused: %v", err)
			case err == nil && piece == "" && len(file.Faults) > 0:
				t.Fatalf("accepted with %v", file.Faults)
			case err == nil:
				renderData(t, data)
			}
		}
	})
}
