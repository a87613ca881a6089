package jobfactory

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxShown bounds, in bytes, what a fault shows of a given value.
const maxShown = 64

// ConfigError is one thing wrong with a runner group's configuration.
type ConfigError struct {
	// Line in the file, from 1; 0 where there is no file.
	Line int
	// Path of the key, such as groups[0].parameters.min.
	Path string
	// Given is what stands there, quoted and shortened; empty where nothing does.
	Given string
	// Accepted says what would be right.
	Accepted string
}

func (f *ConfigError) Error() string {
	var b strings.Builder
	if f.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	b.WriteString(f.Path)
	if f.Given != "" {
		return b.String() + ": " + f.Given + ", want " + f.Accepted
	}
	return b.String() + ": " + f.Accepted
}

func fault(path, given, accepted string) *ConfigError {
	if len(given) > maxShown {
		given = given[:maxShown] + "..."
	}
	return &ConfigError{Path: path, Given: strconv.Quote(strings.ToValidUTF8(given, "?")), Accepted: accepted}
}

var capital = regexp.MustCompile(`[A-Z]`)

// ConfigPath is where the configuration file has what the trigger's metadata
// calls key.
func ConfigPath(key string) string {
	if key == "os" {
		return "architecture"
	}
	key = snake(key)
	if slices.Contains(names(parameterKeys), key) {
		return "parameters." + key
	}
	return key
}

// snake is a camelCase key in snake_case.
func snake(key string) string {
	return capital.ReplaceAllStringFunc(key, func(s string) string { return "_" + strings.ToLower(s) })
}
