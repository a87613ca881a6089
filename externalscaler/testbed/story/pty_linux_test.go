package story

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty returns both ends of a terminal of 80 columns and 24 lines.
func pty(t *testing.T) (screen, program *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(screen.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0), unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}))
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = screen.Close(), program.Close() })
	return screen, program
}

// The output decides how the story is shown. If it is interrupted, the cursor is back.
func TestATerminalIsRecognizedAndLeftAsItWas(t *testing.T) {
	for name, c := range map[string]struct {
		environment      map[string]string
		screen, coloured bool
	}{
		"a terminal": {nil, true, true},
		"NO_COLOR":   {map[string]string{"NO_COLOR": "1"}, true, false},
		"a dumb one": {map[string]string{"TERM": "dumb"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", "xterm")
			t.Setenv("NO_COLOR", "")
			for key, value := range c.environment {
				t.Setenv(key, value)
			}
			screen, program := pty(t)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			ended := make(chan error, 1)
			go func() {
				s := newStage()
				ended <- errors.Join(Run(ctx, s, s, settings, program), program.Close())
			}()
			var shown bytes.Buffer
			for chunk := make([]byte, 4096); ; {
				n, err := screen.Read(chunk)
				shown.Write(chunk[:n])
				if err != nil { // the program's end is closed
					break
				}
				if strings.Contains(shown.String(), "The minimum of each group") {
					interrupt()
				}
			}
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			text := shown.String()
			if got := strings.HasPrefix(text, hideCursor) && strings.HasSuffix(text, "\r\n"+showCursor); got != c.screen || strings.Contains(text, "\x1b") != c.screen {
				t.Errorf("drawn in place: got %v, want %v in %q", got, c.screen, text)
			}
			if got := strings.Contains(text, "\x1b[1m"); got != c.coloured {
				t.Errorf("coloured: got %v, want %v in %q", got, c.coloured, text)
			}
		})
	}
}

// A file is no terminal.
func TestAFileGetsTheLog(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	for _, out := range []io.Writer{file, &bytes.Buffer{}} {
		if _, ok := displayOf(out).(*log); !ok {
			t.Errorf("%T gets %T", out, displayOf(out))
		}
	}
}
