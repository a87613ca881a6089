package jobtemplate

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"bitbucket-runner-scaler/jobfactory"
)

// marker replaces each placeholder, with a number after it, so that the template is YAML.
// No template contains it by itself.
const marker = "x-filled-in-for-each-runner-"

var markers = regexp.MustCompile(marker + "[0-9]+")

// withoutPlaceholders removes the values with placeholders, so that a placeholder may
// also be in the place of an amount or a number. It adds a note for each, except for
// those that the group sets anyway.
func (t *Template) withoutPlaceholders(job json.RawMessage) (json.RawMessage, error) {
	var fields map[string]any
	if err := json.Unmarshal(job, &fields); err != nil {
		return nil, fmt.Errorf("want an object: %w", err)
	}
	t.clear(fields, "")
	return json.Marshal(fields)
}

// clear removes the values of mappings one by one, and items of lists as a whole,
// except in a list of containers.
func (t *Template) clear(fields map[string]any, path string) {
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		at := strings.TrimPrefix(path+"."+key, ".")
		switch value := fields[key].(type) {
		case map[string]any:
			t.clear(value, at)
		case []any:
			fields[key] = slices.DeleteFunc(value, func(item any) bool {
				object, isObject := item.(map[string]any)
				if isObject && strings.HasSuffix(strings.ToLower(key), "containers") {
					t.clear(object, fmt.Sprintf("%s[%v]", at, object["name"]))
					return false
				}
				if !hasPlaceholder(item) {
					return false
				}
				name := nameOf(object)
				t.notePlaceholder(at+"["+name+"]", name)
				return true
			})
		case string:
			if strings.Contains(value, marker) || strings.Contains(key, marker) {
				delete(fields, key)
				t.notePlaceholder(at, "")
			}
		}
	}
}

// nameOf returns the name of an item of a list, or of the object that it refers to.
func nameOf(item map[string]any) string {
	if name, ok := item["name"].(string); ok {
		return name
	}
	for _, key := range slices.Sorted(maps.Keys(item)) {
		if inner, ok := item[key].(map[string]any); ok {
			return nameOf(inner)
		}
	}
	return ""
}

// hasPlaceholder reports whether a placeholder is anywhere in a value.
func hasPlaceholder(value any) bool {
	data, err := json.Marshal(value)
	return err == nil && strings.Contains(string(data), marker)
}

// notePlaceholder adds no note for what every group sets: the runner's identity and
// the resources.
func (t *Template) notePlaceholder(path, name string) {
	switch {
	case jobfactory.IdentityVariable(name), strings.HasPrefix(name, "runner-oauth-credentials"), strings.HasPrefix(path, "metadata."), strings.Contains(path, ".resources."), strings.HasSuffix(path, corev1.LabelArchStable):
	default:
		t.note(markers.ReplaceAllString(path, "<%…%>"), "the autoscaler sets it for each runner; a group's keys may set what is the same for all")
	}
}
