package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/cmd/internal/exit"
)

// maxDistance is the greatest edit distance of a suggestion.
const maxDistance = 3

// Nearest returns the word whose spelling is closest to the given one, or "" if none is
// close.
func Nearest(given string, words []string) string {
	nearest, least := "", maxDistance+1
	given = strings.ToLower(given)
	for _, word := range words {
		distance := levenshtein.ComputeDistance(given, word)
		if len(given) > 2 && strings.HasPrefix(word, given) {
			distance = 1
		}
		// A short word is close to any other, so part of it must match.
		if distance < least && distance <= 1+len(word)/3 && distance < min(len(given), len(word)) {
			nearest, least = word, distance
		}
	}
	return nearest
}

// Explain returns the error for a command line that pflag could not parse. For an unknown
// flag it suggests the nearest one.
func Explain(set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return exit.Usage(err)
	}
	given, name := "--"+unknown.GetSpecifiedName(), unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		name, _, _ = strings.Cut(short, "=")
		given = "-" + name
	}
	var names []string
	set.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	if meant := Nearest(name, names); meant != "" {
		return exit.Usage(fmt.Errorf("unknown flag %s, did you mean --%s?", given, meant))
	}
	return exit.Usage(fmt.Errorf("unknown flag %s", given))
}
