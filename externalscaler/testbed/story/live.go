package story

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// eraseLine goes to the beginning of a terminal's line and empties it.
const eraseLine = "\r\x1b[K"

// narrowest is the width that a terminal of unknown width is taken to have.
const narrowest = 40

// clock is the last line of a terminal, which shows that the story goes on while
// nothing changes. On anything else than a terminal it writes nothing.
type clock struct {
	out   io.Writer
	width func() int // of the terminal; nil if it is none
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
			return narrowest
		}
		return cmp.Or(width, narrowest)
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

// clear makes room for other lines.
func (c *clock) clear() {
	if c.shown {
		c.shown = false
		_, _ = fmt.Fprint(c.out, eraseLine)
	}
}
