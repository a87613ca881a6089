package condition

import "strings"

// maxAlternatives bounds what a pattern with braces expands to.
const maxAlternatives = 256

// Match reports whether a pattern matches a whole name or path. A star matches any characters
// but slashes, two stars match slashes too, a question mark matches one character but a slash,
// and {a,b} matches a or b. "**/" also matches nothing, and so does "/**" at the end.
func Match(pattern, text string) bool {
	for _, p := range alternatives(pattern) {
		if p == text || matches(p, text) {
			return true
		}
	}
	return false
}

// Best returns the index of the pattern that decides about a name: the name itself, or else of
// the matching patterns the most specific one, which has the most characters besides its
// wildcards. Of equal ones the one without two stars wins, and then the first. It returns -1 if
// none matches.
func Best(patterns []string, name string) int {
	best, most := -1, -1
	for i, p := range patterns {
		if p == name {
			return i
		}
		if !Match(p, name) {
			continue
		}
		weight := 2 * len(strings.Map(withoutWildcards, p))
		if !strings.Contains(p, "**") {
			weight++
		}
		if weight > most {
			best, most = i, weight
		}
	}
	return best
}

func withoutWildcards(r rune) rune {
	if strings.ContainsRune("*?{},", r) {
		return -1
	}
	return r
}

// alternatives replaces the innermost braces first. A brace without its partner is an ordinary
// character.
func alternatives(pattern string) []string {
	done, open := []string{}, []string{pattern}
	for len(open) > 0 {
		p := open[0]
		open = open[1:]
		end := strings.IndexByte(p, '}')
		start := -1
		if end >= 0 {
			start = strings.LastIndexByte(p[:end], '{')
		}
		if start < 0 || len(open)+len(done) > maxAlternatives {
			done = append(done, p)
			continue
		}
		for one := range strings.SplitSeq(p[start+1:end], ",") {
			open = append(open, p[:start]+one+p[end+1:])
		}
	}
	return done
}

// matches is Match for a pattern without braces. It goes back to the last star only, and to the
// last double star if that fails, so it never takes long.
func matches(pattern, text string) bool {
	type mark struct{ pattern, text int }
	none := mark{-1, -1}
	star, stars := none, none
	for p, t := 0, 0; ; {
		switch {
		case strings.HasPrefix(pattern[p:], "**"):
			for p < len(pattern) && pattern[p] == '*' {
				p++
			}
			stars, star = mark{p, t}, none
			if strings.HasPrefix(pattern[p:], "/") && (t == 0 || text[t-1] == '/') && matches(pattern[p+1:], text[t:]) {
				return true // **/ matches nothing too
			}
			continue
		case p < len(pattern) && pattern[p] == '*':
			p++
			star = mark{p, t}
			continue
		case p == len(pattern) && t == len(text):
			return true
		case t == len(text) && pattern[p:] == "/**":
			return true
		case p < len(pattern) && t < len(text) && (pattern[p] == text[t] || pattern[p] == '?' && text[t] != '/'):
			p, t = p+1, t+1
			continue
		}
		switch {
		case star != none && star.text < len(text) && text[star.text] != '/':
			star.text++
			p, t = star.pattern, star.text
		case stars != none && stars.text < len(text):
			stars.text++
			star = none
			p, t = stars.pattern, stars.text
		default:
			return false
		}
	}
}
