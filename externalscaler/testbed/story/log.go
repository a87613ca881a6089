package story

import (
	"fmt"
	"io"
	"time"
)

// logWidth is the width of the log's lines.
const logWidth = 100

// log writes a line for each change of a chapter or a group, for outputs that are not a
// terminal.
type log struct {
	out  io.Writer
	last map[string]string // by chapter and group
}

func (l *log) show(s scene) error {
	if l.last == nil {
		l.last = map[string]string{}
	}
	for _, c := range s.chapters {
		state, line := "", ""
		switch {
		case c.ended:
			state, line = "done", fmt.Sprintf("done: %s (%s): %s", c.title, seconds(c.took), c.text)
		case c.begun:
			state, line = "now", fmt.Sprintf("now: %s: %s", c.title, c.text)
		}
		if l.last[c.title] == state {
			continue
		}
		l.last[c.title] = state
		if err := l.write(cut(prefix(s.elapsed, "story")+line, logWidth)); err != nil {
			return err
		}
	}
	for _, g := range s.groups {
		line := fmt.Sprintf("%s, desired %d", inWords(g.runners), g.desired)
		if len(g.waits) == 0 {
			line += " (" + g.rule + ")"
		}
		line = cut(line+inShort(g.waits), logWidth-len(prefix(0, "")))
		if l.last[g.name] == line {
			continue
		}
		l.last[g.name] = line
		if err := l.write(prefix(s.elapsed, g.name) + line); err != nil {
			return err
		}
	}
	return nil
}

// prefix is what each line begins with.
func prefix(elapsed time.Duration, of string) string {
	return fmt.Sprintf("%6.1fs  %-7s ", elapsed.Seconds(), of)
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if letters := []rune(text); len(letters) > width {
		return string(letters[:width-3]) + "..."
	}
	return text
}

func (l *log) end(lines []string) error {
	for _, line := range lines {
		if err := l.write(line); err != nil {
			return err
		}
	}
	return nil
}

func (l *log) write(line string) error {
	if _, err := fmt.Fprintln(l.out, line); err != nil {
		return fmt.Errorf("write the story: %w", err)
	}
	return nil
}
