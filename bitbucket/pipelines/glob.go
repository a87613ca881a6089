package pipelines

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxPattern bounds the length of a pattern, because a long one takes long to compile.
const maxPattern = 1000

// glob is a pattern of branches, tags or bookmarks.
type glob struct {
	expression *regexp.Regexp // nil if the pattern is a plain name
	name       string
	// literals is the number of characters that the pattern fixes: the more, the more
	// specific it is.
	literals int
	// anything is the number of wildcards that also match slashes.
	anything int
}

// newGlob compiles a pattern. A star matches any characters except slashes, two stars match
// slashes too, a question mark matches one character, and {a,b} matches a or b. A brace that
// is not closed is an ordinary character.
func newGlob(pattern string) glob {
	g := glob{name: pattern}
	if len(pattern) > maxPattern || !strings.ContainsAny(pattern, "*?{") {
		return g
	}
	var expression strings.Builder
	open := 0
	for i := 0; i < len(pattern); {
		r, size := utf8.DecodeRuneInString(pattern[i:])
		switch {
		case strings.HasPrefix(pattern[i:], "**"):
			expression.WriteString(".*")
			size, g.anything = 2, g.anything+1
		case r == '*':
			expression.WriteString("[^/]*")
		case r == '?':
			expression.WriteString("[^/]")
		case r == '{' && strings.Contains(pattern[i:], "}"):
			expression.WriteString("(?:")
			open++
		case r == '}' && open > 0:
			expression.WriteString(")")
			open--
		case r == ',' && open > 0:
			expression.WriteString("|")
		default:
			expression.WriteString(regexp.QuoteMeta(pattern[i : i+size]))
			g.literals++
		}
		i += size
	}
	expression.WriteString(strings.Repeat(")", open))
	// An expression that cannot be compiled, such as deeply nested braces, matches only itself.
	g.expression, _ = regexp.Compile(`(?s)^(?:` + expression.String() + `)$`)
	return g
}

func (g glob) matches(name string) bool {
	return name == g.name || g.expression != nil && g.expression.MatchString(name)
}

// beats reports whether a pattern that matches a name takes precedence over another one that
// does too: the exact name before patterns, then the pattern that fixes more characters, then
// the one with fewer wildcards that match slashes. Of equal ones the first in the file wins.
func (g glob) beats(other glob, name string) bool {
	if exact := g.name == name; exact != (other.name == name) {
		return exact
	}
	if g.literals != other.literals {
		return g.literals > other.literals
	}
	return g.anything < other.anything
}
