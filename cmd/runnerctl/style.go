package main

import (
	"io"
	"os"
	"strings"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// style paints words if on is true.
type style struct{ on bool }

// styleOf paints on a terminal only, and never if NO_COLOR is set, see
// https://no-color.org.
func styleOf(to io.Writer, lookup lookup) style {
	file, ok := to.(*os.File)
	return style{on: ok && term.IsTerminal(int(file.Fd())) && colours(lookup)}
}

func colours(lookup lookup) bool {
	none, _ := lookup("NO_COLOR")
	kind, _ := lookup("TERM")
	return none == "" && kind != "dumb"
}

// verdict paints a word that says how something stands; spaces around it stay.
func (s style) verdict(word string) string {
	switch strings.TrimSpace(word) {
	case "WRONG", "lacks", "does not work", "DOES NOT HOLD":
		return s.bad(word)
	case "UNCLEAR", "has perhaps", "COULD NOT BE SEEN":
		return s.warn(word)
	case "has", "works", "HOLDS":
		return s.good(word)
	}
	return word
}

func (s style) good(text string) string { return s.paint(text, color.FgGreen) }
func (s style) bad(text string) string  { return s.paint(text, color.FgRed, color.Bold) }
func (s style) warn(text string) string { return s.paint(text, color.FgYellow) }

// Bad and Warn implement cluster.Painter.
func (s style) Bad(text string) string  { return s.bad(text) }
func (s style) Warn(text string) string { return s.warn(text) }

func (s style) paint(text string, attributes ...color.Attribute) string {
	if !s.on {
		return text
	}
	c := color.New(attributes...)
	c.EnableColor() // the library looks at the process's stdout only
	return c.Sprint(text)
}
