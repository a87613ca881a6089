package pipelines

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// beyondSchema are files that the schema accepts and Parse refuses, or the other way round.
var beyondSchema = map[string]string{
	"fault-anchor-twice.yml":    "the schema does not see anchors",
	"trigger-of-nothing.yml":    "the schema does not know which names exist",
	"fault-merge.yml":           "the mapping is not a document without its merges",
	"fault-empty.yml":           "there is no document",
	"fault-syntax.yml":          "there is no document",
	"fault-undefined-alias.yml": "there is no document",
	"fault-two-documents.yml":   "the schema is of one document",
	"fault-key-twice.yml":       "a mapping has each key once",
	"fault-pipelines-twice.yml": "a mapping has each key once",
	"merge-of-several.yml":      "the library takes one merge per mapping",
}

func TestParseAgreesWithTheSchema(t *testing.T) {
	text, err := os.ReadFile("testdata/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range corpus(t) {
		if beyondSchema[name] != "" {
			continue
		}
		faulty := slices.ContainsFunc(answersOf(text), func(a answer) bool { return a.kind == "fault" })
		invalid := schema.Validate(value(t, text))
		if faulty != (invalid != nil) {
			t.Errorf("%s: faults %v, and the schema says %v", name, faulty, invalid)
		}
	}
}

// value returns the document as the schema's library takes it.
func value(t *testing.T, text string) any {
	t.Helper()
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(text), &node); err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := node.Decode(&decoded); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(withTextKeys(decoded))
	if err != nil {
		t.Fatal(err)
	}
	valid, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return valid
}

// withTextKeys turns keys such as numbers into text.
func withTextKeys(value any) any {
	switch v := value.(type) {
	case map[any]any:
		result := map[string]any{}
		for key, item := range v {
			text, err := yaml.Marshal(key)
			if err == nil {
				result[string(bytes.TrimSpace(text))] = withTextKeys(item)
			}
		}
		return result
	case map[string]any:
		for key, item := range v {
			v[key] = withTextKeys(item)
		}
	case []any:
		for i, item := range v {
			v[i] = withTextKeys(item)
		}
	}
	return value
}
