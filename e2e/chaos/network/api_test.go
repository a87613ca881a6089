package network

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bitbucket-runner-scaler/e2e/chaos/clock"
)

func TestTimesAreTranslatedAndPutBack(t *testing.T) {
	c, err := clock.New(filepath.Join(t.TempDir(), "clock"), 6)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Add(time.Minute).Truncate(time.Second)
	own := `"renewTime":"` + at.Format("2006-01-02T15:04:05.000000Z") + `"`
	text := `{"creationTimestamp":"` + at.Format(time.RFC3339) + `",` + own + `,"name":"x-2026","end":"` + at.Format(time.RFC3339) + `"}` + "\n"
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"in halves":    iotest.HalfReader,
	} {
		t.Run(name, func(t *testing.T) {
			shown := read(t, translated(io.NopCloser(reader(strings.NewReader(text))), c.Shown))
			if want := strings.ReplaceAll(text, `"`+at.Format(time.RFC3339)+`"`, `"`+c.Shown(at).UTC().Format(time.RFC3339)+`"`); shown != want {
				t.Errorf("got %s want %s", shown, want)
			}
			if back := read(t, translated(io.NopCloser(reader(strings.NewReader(shown))), c.Machine)); back != text {
				t.Errorf("put back: got %s want %s", back, text)
			}
		})
	}
}

func TestEventOfAWatchDoesNotWaitForTheNext(t *testing.T) {
	c, err := clock.New(filepath.Join(t.TempDir(), "clock"), 2)
	if err != nil {
		t.Fatal(err)
	}
	near, far := io.Pipe()
	body := translated(near, c.Shown)
	event := `{"type":"ADDED","at":"2026-01-02T03:04:05Z"}` + "\n"
	go func() { _, _ = far.Write([]byte(event)) }() // and no more
	got := make([]byte, len(event))
	if _, err := io.ReadFull(body, got); err != nil || !bytes.HasSuffix(got, []byte("Z\"}\n")) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, body io.ReadCloser) string {
	t.Helper()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
