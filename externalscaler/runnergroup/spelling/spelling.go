// Package spelling finds the word that a misspelt one was probably meant to be, for keys,
// flags, variables and commands alike. What is done with the word is up to the caller.
package spelling

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

const (
	// maxDistance is the greatest edit distance of a suggestion.
	maxDistance = 3
	// maxLength bounds the words that are compared, because the distance of long ones takes
	// long to compute, and no known word is that long.
	maxLength = 64
)

// Nearest returns the word whose spelling is closest to the given one, or "" if none is
// close.
func Nearest(given string, words []string) string {
	if len(given) > maxLength {
		return ""
	}
	nearest, least := "", maxDistance+1
	given = strings.ToLower(given)
	for _, word := range words {
		known := strings.ToLower(word)
		distance := levenshtein.ComputeDistance(given, known)
		if len(given) > 2 && strings.HasPrefix(known, given) {
			distance = min(distance, 1)
		}
		// A short word is close to any other, so part of it must match.
		if distance < least && distance <= 1+len(known)/3 && distance < min(len(given), len(known)) {
			nearest, least = word, distance
		}
	}
	return nearest
}
