package configtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"go.yaml.in/yaml/v3"

	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
)

const seeds = 1000

// known returns the paths of all keys of a configuration file from the JSON Schema,
// without those of Kubernetes' types.
func known(t *testing.T) []string {
	t.Helper()
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var paths []string
	var walk func(schema map[string]any, path string)
	walk = func(schema map[string]any, path string) {
		if items, ok := schema["items"].(map[string]any); ok {
			walk(items, path)
		}
		properties, _ := schema["properties"].(map[string]any)
		for key, value := range properties {
			paths = append(paths, path+"/"+key)
			walk(value.(map[string]any), path+"/"+key)
		}
	}
	walk(schema, "")
	return paths
}

// used adds the paths of a file's keys.
func used(value any, path string, paths map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			paths[path+"/"+key] = true
			used(inner, path+"/"+key, paths)
		}
	case []any:
		for _, item := range v {
			used(item, path, paths)
		}
	}
}

func TestEveryKeyIsGenerated(t *testing.T) {
	paths := map[string]bool{}
	for seed := range uint64(seeds) {
		var file any
		if err := yaml.Unmarshal(configtest.Good(seed).YAML, &file); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		used(file, "", paths)
	}
	all := known(t)
	if len(all) < 100 {
		t.Fatalf("%d keys in the schema", len(all))
	}
	for _, path := range all {
		if usual(path) && !paths[path] {
			t.Errorf("never generated: %s", path)
		}
	}
}

// usual reports whether a path has the spelling of its form. The reader accepts both
// spellings in both forms.
func usual(path string) bool {
	if strings.HasPrefix(path, "/config/") && !strings.HasSuffix(path, "/runners_count") {
		return !strings.Contains(path, "_") && !strings.HasSuffix(path, "/runnersCount")
	}
	return !strings.ContainsFunc(path, unicode.IsUpper)
}

func TestTheSameSeedGivesTheSameFile(t *testing.T) {
	for seed := range uint64(50) {
		for name, generate := range map[string]func(uint64) configtest.File{"good": configtest.Good, "bad": configtest.Bad} {
			one, two := generate(seed), generate(seed)
			if !bytes.Equal(one.YAML, two.YAML) || !slices.Equal(one.Faults, two.Faults) {
				t.Errorf("%s file of seed %d differs the second time", name, seed)
			}
		}
	}
}

func TestEveryKindOfFaultIsGenerated(t *testing.T) {
	kinds, counts, forms := map[string]int{}, map[int]int{}, map[configtest.Form]int{}
	for seed := range uint64(seeds) {
		if faults := configtest.Good(seed).Faults; len(faults) > 0 {
			t.Errorf("seed %d: the good file has %v", seed, faults)
		}
		file := configtest.Bad(seed)
		forms[file.Form]++
		counts[len(file.Faults)]++
		for _, fault := range file.Faults {
			kinds[fault.Kind]++
			if fault.Path == "" {
				t.Errorf("seed %d: a %s without a path", seed, fault.Kind)
			}
		}
	}
	for _, kind := range []string{
		"unknown key", "key given twice", "missing key", "wrong type", "empty value", "out of range", "no such choice", "contradiction", "bad name", "duplicate name",
		"reserved name", "reserved namespace", "bad label", "bad quantity", "bad duration", "bad path", "bad reference", "bad address", "secret", "breaks the pod",
	} {
		if kinds[kind] == 0 {
			t.Errorf("never generated: %s", kind)
		}
	}
	if got := slices.Sorted(maps.Keys(counts)); fmt.Sprint(got) != "[1 2 3 4]" || len(forms) != 3 {
		t.Errorf("numbers of faults %v, forms %v; want 1 to 4, and three forms", got, forms)
	}
}
