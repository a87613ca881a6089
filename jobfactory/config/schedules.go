package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

var wholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})$`)

// schedules reads the time windows, in the form of the trigger's metadata. What is wrong with their
// values is for the scaler's parser to say.
func (e entry) schedules() string {
	nodes := e.list(e.fields["schedules"], e.at("schedules"))
	windows := make([]map[string]any, 0, len(nodes))
	for i, node := range nodes {
		path := fmt.Sprintf("%s[%d]", e.at("schedules"), i)
		window := map[string]any{}
		for name, value := range e.object(node, path, names(scheduleKeys)) {
			given, ok := e.text(value, path+"."+name)
			number := name == "min" || name == "max" || name == "spare"
			switch {
			case !ok:
			case given == "":
				e.add(value, path+"."+name, given, "a value, or leave the key out")
			case number && !wholeNumber.MatchString(given):
				e.add(value, path+"."+name, given, "a whole number from 0 to 100")
			case number:
				window[name] = json.Number(given)
			default:
				window[name] = given
			}
		}
		windows = append(windows, window)
	}
	text, err := json.Marshal(windows)
	if err != nil {
		panic(err) // all values are plain
	}
	return string(text)
}

var windowKey = regexp.MustCompile(`^schedules\[(\d+)\](?:\.(\w+))?$`)

// place is the value of a key that the scaler's parser names; nil if there is none.
func (e entry) place(key string) *yaml.Node {
	match := windowKey.FindStringSubmatch(key)
	if match == nil {
		return e.fields[key]
	}
	windows := given(e.fields["schedules"])
	at, err := strconv.Atoi(match[1])
	if err != nil || windows == nil || at >= len(windows.Content) {
		return windows
	}
	window := windows.Content[at]
	if value := valueOf(window, match[2]); value != nil {
		return value
	}
	return window
}
