package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"bitbucket-runner-scaler/jobfactory/config"
)

type schema = map[string]any

const (
	definitions = "  \"definitions\": {\n"
	// prefix is that of the generated definitions, each of which is one line.
	prefix = "runners."
)

var generated = regexp.MustCompile(`(?m)^    "` + regexp.QuoteMeta(prefix) + `[^\n]*\n`)

// Schema returns the JSON Schema of the chart's values with the current definition of
// `groups`, which is made from that of the configuration file.
func Schema(values []byte) ([]byte, error) {
	text, err := config.Schema()
	if err != nil {
		return nil, fmt.Errorf("schema of the configuration: %w", err)
	}
	var file struct {
		Properties map[string]schema `json:"properties"`
		Defs       map[string]schema `json:"$defs"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("schema of the configuration: %w", err)
	}
	groups := file.Properties["groups"]
	delete(groups, "minItems") // without groups the chart only has the control plane
	all := maps.Clone(file.Defs)
	all["groups"], all["group"] = groups, groups["items"].(schema)
	adapt(all["group"], false)
	groups["items"] = schema{"allOf": []any{schema{"$ref": "#/$defs/group"}, schema{"type": "object"}}}
	var lines bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		line, err := json.Marshal(all[name])
		if err != nil {
			return nil, fmt.Errorf("definition of %s: %w", name, err)
		}
		fmt.Fprintf(&lines, "    %q: %s,\n", prefix+name, strings.ReplaceAll(string(line), `"#/$defs/`, `"#/definitions/`+prefix))
	}
	before, after, found := bytes.Cut(generated.ReplaceAll(values, nil), []byte(definitions))
	if !found {
		return nil, fmt.Errorf("schema of the values: no line %q", strings.TrimSpace(definitions))
	}
	return slices.Concat(before, []byte(definitions), lines.Bytes(), after), nil
}

// amountPattern is the form of an amount of a resource that is not negative.
const amountPattern = `^([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][-+]?[0-9]{1,2})?$`

// adapt changes a definition for values that Helm has read: it does not keep how a scalar
// is written, so that 1.10 becomes 1.1. Numbers are accepted only where a number is meant.
func adapt(s schema, amounts bool) {
	if types, ok := s["type"].([]any); ok && slices.Contains(types, any("boolean")) && slices.Contains(types, any("number")) {
		s["type"] = []string{"string", "null"}
		switch pattern := s["pattern"]; {
		case amounts:
			s["pattern"] = amountPattern
			fallthrough
		case pattern == config.DecimalPattern:
			s["type"], s["minimum"] = []string{"string", "number", "null"}, 0
		case pattern == config.CountPattern:
			s["type"], s["minimum"], s["maximum"] = []string{"string", "integer", "null"}, 0, 100
		case pattern == config.DurationPattern:
			s["type"], s["minimum"] = []string{"string", "integer", "null"}, 0
		}
	}
	if properties, ok := s["properties"].(schema); ok {
		for key, property := range properties {
			adapt(property.(schema), key == "requests" || key == "limits")
		}
	}
	if values, ok := s["additionalProperties"].(schema); ok {
		adapt(values, amounts)
	}
	if items, ok := s["items"].(schema); ok {
		adapt(items, amounts)
		if items["$ref"] != nil || items["properties"] != nil { // a template reads its keys
			s["items"] = schema{"allOf": []any{items, schema{"type": "object"}}}
		}
	}
}
