package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/cmd/internal/exit"
)

// farthest is the edit distance up to which a word may be the one that was meant.
const farthest = 3

// Nearest is the word that is spelt most like the given one; empty if none is near.
func Nearest(given string, words []string) string {
	nearest, least := "", farthest+1
	given = strings.ToLower(given)
	for _, word := range words {
		distance := levenshtein.ComputeDistance(given, word)
		if len(given) > 2 && strings.HasPrefix(word, given) {
			distance = 1
		}
		// A short word is near to any other, so part of it must be right.
		if distance < least && distance <= 1+len(word)/3 && distance < min(len(given), len(word)) {
			nearest, least = word, distance
		}
	}
	return nearest
}

// Explain returns what is wrong with a command line that pflag could not read; for
// an unknown flag, the one that may have been meant.
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
