package jobfactory_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/jobfactory"
	"bitbucket-runner-scaler/jobfactory/configgen"
	"bitbucket-runner-scaler/jobfactory/lint"
)

// generated is how many good and how many bad files are tried.
const generated = 250

// told are the faults of a ReadConfig.
func told(t *testing.T, err error) []*jobfactory.ConfigError {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // ReadConfig joins, and wraps nothing around it
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

// Every fault is told, by its path and with what is given, and nothing is told
// that only follows from another.
func TestGeneratedBadConfigurationsAreRefusedForJustTheirFaults(t *testing.T) {
	for seed := range uint64(generated) {
		file := configgen.Bad(seed)
		_, err := jobfactory.ReadConfig(file.YAML)
		if err == nil {
			t.Errorf("seed %d: accepted with %v\n%s", seed, file.Faults, file.YAML)
			continue
		}
		_, again := jobfactory.ReadConfig(file.YAML)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("seed %d: told differently the second time: %v, then %v", seed, err, again)
		}
		input := &lint.Input{}
		input.Read("runners_config.yaml", file.YAML)
		found := lint.Check(input, lint.DefaultOptions())
		told := told(t, err)
		for _, planted := range file.Faults {
			i := slices.IndexFunc(told, func(f *jobfactory.ConfigError) bool {
				return f.Path == planted.Path && (planted.Given == "" || f.Given == strconv.Quote(planted.Given))
			})
			if i < 0 {
				t.Errorf("seed %d: not told: %v\ngot: %v\n%s", seed, planted, err, file.YAML)
				continue
			}
			if told[i].Line == 0 || told[i].Accepted == "" {
				t.Errorf("seed %d: without a line, or what would be right: %v", seed, told[i])
			}
			told = slices.Delete(told, i, i+1)
			if !slices.ContainsFunc(found, func(f lint.Finding) bool { return f.Severity == lint.Error && f.Path == planted.Path && f.Line > 0 }) {
				t.Errorf("seed %d: lint does not find: %v\ngot: %+v\n%s", seed, planted, found, file.YAML)
			}
		}
		for _, fault := range told {
			t.Errorf("seed %d: told besides %v: %v\n%s", seed, file.Faults, fault, file.YAML)
		}
	}
}

// rendered are all manifests of a configuration file as one stream.
func rendered(t *testing.T, data []byte) []byte {
	t.Helper()
	config, err := jobfactory.ReadConfig(data)
	if err != nil {
		t.Fatalf("refused: %v\n%s", err, data)
	}
	files, err := jobfactory.Manifests(config.Groups)
	if err != nil {
		t.Fatalf("accepted, and not rendered: %v\n%s", err, data)
	}
	var all bytes.Buffer
	for _, file := range files {
		manifests, err := jobfactory.Marshal(file.Objects...)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("---\n")
		all.Write(manifests)
	}
	return all.Bytes()
}

func TestGeneratedGoodConfigurationsAreRenderedAlikeAndPassLint(t *testing.T) {
	schema := compiled(t)
	for seed := range uint64(generated) {
		file := configgen.Good(seed)
		if err := schema.Validate(instance(t, file.YAML)); err != nil {
			t.Errorf("seed %d: the JSON Schema refuses it: %v\n%s", seed, err, file.YAML)
		}
		manifests := rendered(t, file.YAML)
		if !bytes.Equal(manifests, rendered(t, file.YAML)) {
			t.Errorf("seed %d: rendered differently the second time\n%s", seed, file.YAML)
		}
		input := &lint.Input{}
		input.Read("runners_config.yaml", file.YAML)
		input.Read("manifests.yaml", manifests)
		for _, finding := range lint.Check(input, lint.DefaultOptions()) {
			if finding.Severity == lint.Error {
				t.Errorf("seed %d: lint finds an error in what is right: %+v\n%s", seed, finding, file.YAML)
			}
		}
	}
}

// Whatever becomes of a generated file's bytes, they are either refused or
// rendered, and the same twice.
func FuzzGeneratedConfigurations(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed, uint(0), "")
		f.Add(seed, uint(100*seed), "~")
		f.Add(seed, uint(70*seed), " [")
	}
	f.Fuzz(func(t *testing.T, seed uint64, at uint, piece string) {
		for _, file := range []configgen.File{configgen.Good(seed), configgen.Bad(seed)} {
			data := file.YAML
			if len(piece) > 0 {
				at := int(at % uint(len(data)))
				data = slices.Concat(data[:at], []byte(piece), data[min(at+len(piece), len(data)):])
			}
			config, err := jobfactory.ReadConfig(data)
			again, errAgain := jobfactory.ReadConfig(data)
			if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
				t.Fatalf("%v, then %v", err, errAgain)
			}
			if diff := cmp.Diff(config, again); diff != "" {
				t.Fatalf("first -, second +:\n%s", diff)
			}
			switch {
			case err != nil && len(config.Groups)+len(config.Notes) > 0:
				t.Fatalf("both refused and read: %v", err)
			case err != nil && piece == "" && len(file.Faults) == 0:
				t.Fatalf("refused: %v", err)
			case err == nil && piece == "" && len(file.Faults) > 0:
				t.Fatalf("accepted with %v", file.Faults)
			case err == nil:
				rendered(t, data)
			}
		}
	})
}
