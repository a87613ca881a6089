package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
)

// Text writes one line per finding: FILE:LINE: PATH: severity: message (rule) - remedy.
func Text(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		place := f.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		if f.Path != "" {
			place += ": " + f.Path
		}
		if _, err := fmt.Fprintf(w, "%s: %s: %s (%s) - %s\n", place, f.Severity, f.Message, f.Rule, f.Remedy); err != nil {
			return err
		}
	}
	return nil
}

// JSON writes an array of findings, which is empty if there are none.
func JSON(w io.Writer, findings []Finding) error {
	if findings == nil {
		findings = []Finding{}
	}
	return indent(w, findings)
}

// SARIF writes a log in SARIF 2.1.0 (OASIS, sections 3.13 ff.), which code hosts show
// beside the lines. The log needs only few of SARIF's objects.
func SARIF(w io.Writer, version string, findings []Finding) error {
	type text struct {
		Text string `json:"text"`
	}
	type object = map[string]any
	known := Rules()
	rules := make([]object, 0, len(known))
	for _, r := range known {
		rules = append(rules, object{"id": r.ID, "shortDescription": text{r.Finds}, "help": text{r.Remedy}, "defaultConfiguration": object{"level": r.Severity}})
	}
	results := make([]object, 0, len(findings))
	for _, f := range findings {
		place := object{"artifactLocation": object{"uri": filepath.ToSlash(f.File)}}
		if f.Line > 0 {
			place["region"] = object{"startLine": f.Line}
		}
		location := object{"physicalLocation": place}
		if f.Path != "" {
			location["logicalLocations"] = []object{{"fullyQualifiedName": f.Path}}
		}
		results = append(results, object{"ruleId": f.Rule, "level": f.Severity, "message": text{f.Message + " - " + f.Remedy}, "locations": []object{location}})
	}
	return indent(w, object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":    object{"driver": object{"name": "runnerctl lint", "version": version, "rules": rules}},
			"results": results,
		}},
	})
}

func indent(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// JSONRules writes the rules as an array.
func JSONRules(w io.Writer, rules []Rule) error { return indent(w, rules) }
