package story

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// The sequences of a terminal that the screen uses.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
	eraseAll   = "\x1b[H\x1b[2J"
)

// The size that is assumed for a terminal that does not know its own.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// displayOf returns a screen for a terminal, and a log for anything else.
func displayOf(out io.Writer) display {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return &log{out: out}
	}
	size := func() (width, height int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return defaultWidth, defaultHeight
		}
		return width, height
	}
	return &terminal{out: out, size: size, coloured: os.Getenv("NO_COLOR") == ""}
}

// terminal shows scenes in place, each over the last one. It moves the cursor relatively, so
// that what was on the terminal before stays.
type terminal struct {
	out      io.Writer
	size     func() (width, height int)
	coloured bool

	width, height int
	// drawn is how many lines the last drawing has. The cursor is on the last one.
	drawn int
}

// span is a part of a line in one colour; none is 0.
type span struct {
	text  string
	paint color.Attribute
}

// show draws a scene with one write, so that it does not flicker.
func (t *terminal) show(s scene) error {
	width, height := t.size()
	lines := draw(s)
	if most := max(1, height-1); len(lines) > most {
		lines = lines[:most]
	}
	var b strings.Builder
	switch {
	case t.drawn == 0:
		b.WriteString(hideCursor)
	case width != t.width || height != t.height: // lines may have wrapped
		b.WriteString(eraseAll)
	default:
		b.WriteString("\r")
		if t.drawn > 1 {
			fmt.Fprintf(&b, "\x1b[%dA", t.drawn-1)
		}
	}
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(t.paint(line, width-1)) // a full line would wrap
		b.WriteString(eraseRight)
	}
	b.WriteString(eraseBelow)
	t.drawn, t.width, t.height = len(lines), width, height
	return t.write(b.String())
}

// end leaves the last scene, and the cursor below it.
func (t *terminal) end(lines []string) error {
	var b strings.Builder
	if t.drawn > 0 {
		b.WriteString("\r\n" + showCursor)
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	return t.write(b.String())
}

func (t *terminal) write(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return fmt.Errorf("write the story: %w", err)
	}
	return nil
}

// paint returns a line in its colours, cut to a width.
func (t *terminal) paint(line []span, width int) string {
	var b strings.Builder
	for _, s := range line {
		text := []rune(s.text)
		text = text[:max(0, min(len(text), width))]
		width -= len(text)
		if s.paint == 0 || !t.coloured || len(text) == 0 {
			b.WriteString(string(text))
			continue
		}
		c := color.New(s.paint)
		c.EnableColor() // the library looks at the process's stdout only
		b.WriteString(c.Sprint(string(text)))
	}
	return b.String()
}

// shownWaits is how many reasons why steps wait have a line in each group.
const shownWaits = 3

// draw returns the lines of a scene. Their number changes only when a group appears or goes.
func draw(s scene) (lines [][]span) {
	add := func(line ...span) { lines = append(lines, line) }
	add(span{fmt.Sprintf("%6.1fs  ", s.elapsed.Seconds()), 0}, span{"the pipelines of acme/app and acme/web on runners that KEDA starts", color.Bold})
	for _, c := range s.chapters {
		switch {
		case c.ended:
			add(span{" done ", color.FgGreen}, span{fmt.Sprintf("%-26s %5.1fs  %s", c.title, c.took.Seconds(), c.text), 0})
		case c.begun:
			add(span{"  now ", color.FgYellow}, span{fmt.Sprintf("%-26s %5.1fs  %s", c.title, c.took.Seconds(), c.text), 0})
		default:
			add(span{"      " + c.title, color.Faint})
		}
	}
	if s.trouble != "" {
		add(span{"not seen: " + s.trouble, color.FgRed})
	}
	if len(s.groups) == 0 {
		return lines
	}
	add()
	for _, g := range s.groups {
		line := []span{{fmt.Sprintf("%-8s", g.name), color.Bold}}
		for _, m := range marks {
			line = append(line, span{strings.Repeat(m.mark, max(0, g.runners[m.state])), colourOf[m.state]})
		}
		add(append(line, span{"  " + inWords(g.runners), 0})...)
		add(span{fmt.Sprintf("  desired %d: %s", g.desired, g.note), 0})
		for i := range shownWaits {
			switch {
			case i >= len(g.waits):
				add()
			case i == shownWaits-1 && len(g.waits) > shownWaits:
				add(span{fmt.Sprintf("         and %d other reasons", len(g.waits)-i), color.FgCyan})
			default:
				add(span{"  waits: " + g.waits[i].String(), color.FgCyan})
			}
		}
	}
	return lines
}

// colourOf are the colours of runners.
var colourOf = map[string]color.Attribute{
	"busy": color.FgGreen, "idle": color.FgBlue, "starting": color.FgYellow, "pending": color.FgYellow, "lost": color.FgRed,
}
