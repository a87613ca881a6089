package story

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// eraseLine moves to the beginning of a terminal's line and erases it.
const eraseLine = "\r\x1b[K"

// defaultWidth is assumed for a terminal of unknown width.
const defaultWidth = 40

// clock is the last line of a terminal. It shows that the story continues while nothing
// changes. If the output is not a terminal, it writes nothing.
type clock struct {
	out   io.Writer
	width func() int // of the terminal; nil if the output is not a terminal
	shown bool
}

func newClock(out io.Writer) *clock {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return &clock{out: out}
	}
	return &clock{out: out, width: func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return defaultWidth
		}
		return cmp.Or(width, defaultWidth)
	}}
}

// show writes the time and what is waited for, within one line.
func (c *clock) show(elapsed time.Duration, waitedFor string) {
	if c.width == nil {
		return
	}
	line := []rune(fmt.Sprintf("  %6.1fs  ... waiting for %s", elapsed.Seconds(), waitedFor))
	if width := c.width() - 1; len(line) > width { // a full line would scroll
		line = line[:max(width, 0)]
	}
	c.shown = true
	_, _ = fmt.Fprint(c.out, eraseLine, string(line))
}

// clear erases the line before other lines are written.
func (c *clock) clear() {
	if c.shown {
		c.shown = false
		_, _ = fmt.Fprint(c.out, eraseLine)
	}
}
