package jobfactory

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// placeholder is what the autoscaler fills in for each runner, and filledIn what
// is read in its place: a text that nobody writes.
var placeholder = regexp.MustCompile(`<%.*?%>|\{\{.*?\}\}|\{%.*?%\}`)

const filledIn = "x-filled-in-for-each-runner-x"

// withoutPlaceholders takes away what the autoscaler fills in, so that an amount
// or a number can be one too. It notes each but those that the group says anyway.
func (t *JobTemplate) withoutPlaceholders(job json.RawMessage) (json.RawMessage, error) {
	var fields map[string]any
	if err := json.Unmarshal(job, &fields); err != nil {
		return nil, fmt.Errorf("want an object: %w", err)
	}
	t.clear(fields, "")
	return json.Marshal(fields)
}

// clear takes mappings' values one by one, and a list's item as a whole, except
// that of a list of containers.
func (t *JobTemplate) clear(fields map[string]any, path string) {
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
				if !holds(item) {
					return false
				}
				name := any("")
				if isObject {
					name = object["name"]
				}
				t.noteFilled(fmt.Sprintf("%s[%v]", at, name), fmt.Sprint(name))
				return true
			})
		case string:
			if strings.Contains(value, filledIn) || strings.Contains(key, filledIn) {
				delete(fields, key)
				t.noteFilled(at, "")
			}
		}
	}
}

// holds says whether there is a placeholder anywhere in a value.
func holds(value any) bool {
	data, err := json.Marshal(value)
	return err == nil && strings.Contains(string(data), filledIn)
}

// noteFilled leaves out what every group says: which runner it is, and its resources.
func (t *JobTemplate) noteFilled(path, name string) {
	switch {
	case slices.Contains(identity, name), strings.HasPrefix(path, "metadata."), strings.Contains(path, ".resources."), strings.HasSuffix(path, archLabel):
	default:
		t.note(strings.ReplaceAll(path, filledIn, "<%…%>"), "the autoscaler fills it in for each runner; a group's keys may say what is the same for all")
	}
}
