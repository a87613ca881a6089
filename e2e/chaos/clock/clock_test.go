package clock

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// reading is what testdata/probe prints.
type reading struct {
	Wall    time.Time
	Slept   time.Duration
	Expired bool
}

func TestProcessLivesByItsClock(t *testing.T) {
	dir := t.TempDir()
	program := build(t, dir)
	c, err := New(filepath.Join(dir, "clock"), 10)
	if err != nil {
		t.Fatal(err)
	}
	twin, err := c.Twin(filepath.Join(dir, "twin"))
	if err != nil {
		t.Fatal(err)
	}
	twin.Step(-time.Hour)
	began := time.Now()
	fast, stepped := run(t, program, c), run(t, program, twin)
	took := time.Since(began)

	if fast.Slept < 2*time.Second || !fast.Expired {
		t.Errorf("got a sleep of 2s that took %v, network deadline expired: %v", fast.Slept, fast.Expired)
	}
	if took > 10*time.Second { // each took 3 s of its clock, a tenth of that in fact
		t.Errorf("two processes that wait for 3s took %v", took)
	}
	if off := fast.Wall.Sub(c.Shown(began)); off < 0 || off > 10*took {
		t.Errorf("the process's clock is %v off", off)
	}
	if off := stepped.Wall.Sub(c.Shown(began)); off < -time.Hour || off > -time.Hour+10*took {
		t.Errorf("the stepped clock is %v off", off)
	}
}

func TestTimesOfTheAPIHaveAnExactCounterpart(t *testing.T) {
	c, err := New(filepath.Join(t.TempDir(), "clock"), 7)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{-time.Hour, 0, time.Second, 12345 * time.Second} {
		at := time.Now().Truncate(time.Second).Add(d)
		if back := c.Machine(c.Shown(at)); !back.Equal(at) {
			t.Errorf("%v came back as %v", at, back)
		}
	}
}

func build(t *testing.T, dir string) string {
	t.Helper()
	overlay, err := Overlay(t.Context(), filepath.Join(dir, "overlay"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "probe")
	command := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", overlay, "-o", program, "./testdata/probe")
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

func run(t *testing.T, program string, c *Clock) reading {
	t.Helper()
	command := exec.CommandContext(t.Context(), program)
	command.Env = append(os.Environ(), c.Environment())
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r reading
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
