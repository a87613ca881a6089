package condition

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Evaluate reports whether an expression holds: comparisons (==, !=, <, <=, >, >=) of variables,
// texts in quotes and numbers, glob(value, pattern), &&, ||, ! and parentheses. A variable that
// is not set is empty. Bitbucket's own grammar is not documented in full, so an expression with
// anything else is an error, and somebody else decides.
func Evaluate(expression string, variables map[string]string) (bool, error) {
	words, err := split(expression)
	if err != nil {
		return false, err
	}
	p := &parser{words: words, variables: variables}
	holds, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q is not expected", p.words[0])
	}
	return holds, err
}

// operators are the words that are not names, longer ones first.
var operators = []string{"&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", ","}

func split(text string) ([]string, error) {
	var words []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		var length int
		if i := slices.IndexFunc(operators, func(op string) bool { return strings.HasPrefix(text, op) }); i >= 0 {
			length = len(operators[i])
		} else if quote := text[0]; quote == '"' || quote == '\'' {
			end := strings.IndexByte(text[1:], quote)
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			length = end + 2
		} else {
			length = strings.IndexFunc(text, func(r rune) bool {
				return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_.$-", r)
			})
			if length < 0 {
				length = len(text)
			}
		}
		if length == 0 {
			return nil, fmt.Errorf("%q is not expected", text[:1])
		}
		words = append(words, text[:length])
		text = text[length:]
	}
	return words, nil
}

// parser reads words from the left.
type parser struct {
	words     []string
	variables map[string]string
	depth     int
}

func (p *parser) take(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) or() (bool, error) {
	holds, err := p.and()
	for err == nil && p.take("||") {
		var right bool
		right, err = p.and()
		holds = holds || right
	}
	return holds, err
}

func (p *parser) and() (bool, error) {
	holds, err := p.not()
	for err == nil && p.take("&&") {
		var right bool
		right, err = p.not()
		holds = holds && right
	}
	return holds, err
}

const maxDepth = 50

func (p *parser) not() (bool, error) {
	p.depth++
	defer func() { p.depth-- }()
	switch {
	case p.depth > maxDepth:
		return false, errors.New("nested too deeply")
	case p.take("!"):
		holds, err := p.not()
		return !holds, err
	case p.take("("):
		holds, err := p.or()
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return holds, err
	case len(p.words) > 1 && p.words[0] == "glob" && p.words[1] == "(":
		return p.glob()
	}
	return p.comparison()
}

func (p *parser) glob() (bool, error) {
	p.words = p.words[2:]
	text, err := p.value()
	if err != nil {
		return false, err
	}
	if !p.take(",") {
		return false, errors.New("glob wants a value and a pattern")
	}
	pattern, err := p.value()
	if err == nil && !p.take(")") {
		err = errors.New("a parenthesis is not closed")
	}
	return Match(pattern, text), err
}

func (p *parser) comparison() (bool, error) {
	left, err := p.value()
	if err != nil || len(p.words) == 0 {
		return left == "true", err
	}
	op := p.words[0]
	switch op {
	case "==", "!=", "<", "<=", ">", ">=":
	default:
		return left == "true", nil
	}
	p.words = p.words[1:]
	right, err := p.value()
	if err != nil {
		return false, err
	}
	order := strings.Compare(left, right)
	if x, errX := strconv.ParseFloat(left, 64); errX == nil {
		if y, errY := strconv.ParseFloat(right, 64); errY == nil {
			order = 0
			if x < y {
				order = -1
			} else if x > y {
				order = 1
			}
		}
	}
	return map[string]bool{"==": order == 0, "!=": order != 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[op], nil
}

// value reads a text, a number, true, false or a variable.
func (p *parser) value() (string, error) {
	if len(p.words) == 0 {
		return "", errors.New("it ends too early")
	}
	word := p.words[0]
	if slices.Contains(operators, word) {
		return "", fmt.Errorf("%q is not expected", word)
	}
	p.words = p.words[1:]
	switch {
	case word[0] == '"' || word[0] == '\'':
		return word[1 : len(word)-1], nil
	case word == "true" || word == "false" || unicode.IsDigit(rune(word[0])) || word[0] == '-':
		return word, nil
	}
	return p.variables[strings.TrimPrefix(word, "$")], nil
}
