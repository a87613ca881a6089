package wrapper

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bitbucket-runner-scaler/jobfactory/sidecar/internal/sidecartest"
)

func TestOutputPassesThroughByteForByte(t *testing.T) {
	s := serveEnvironment(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	// A line far longer than any bound, then a state line that does not end.
	clear(content[1<<20 : 2<<20])
	content = append(content, []byte("\r\n\xff"+`Getting step StepId{stepUuid={`)...)
	file := filepath.Join(s.dir, "..", "content")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	e := sidecartest.StartExec(t, s.dir, "cat "+file+"; cat "+file+" >&2")
	if code := e.ExitCode(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if e.Stdout.String() != string(content) || e.Stderr.String() != string(content) {
		t.Errorf("%d and %d bytes differ from the %d written", len(e.Stdout.String()), len(e.Stderr.String()), len(content))
	}
}

func TestOutputIsNotDelayed(t *testing.T) {
	e := sidecartest.StartExec(t, serveEnvironment(t).dir, `printf 'no line end'; sleep 1000`)
	sidecartest.Eventually(t, "the unfinished line is out", func() bool { return e.Stdout.String() == "no line end" })
	e.Signal(t, syscall.SIGTERM)
	e.ExitCode(t)
}
