package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestThePageShowsWhatWasMeasured(t *testing.T) {
	d, err := Open(filepath.Join("..", "..", "..", "docs"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.Page()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(d.dir, page))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not that of %s: run make bench", page, values)
	}
}

func TestAPartReplacesTheOneBeforeAndLeavesTheRestOfThePage(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "benchmarks"), 0o755); err != nil {
		t.Fatal(err)
	}
	const before = "# Page\n\n<!-- speed: written -->\nold\n<!-- end of speed -->\n\nThe rest costs $1.\n"
	if err := os.WriteFile(filepath.Join(dir, page), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, measured := range []string{"9 MiB", "$1 MiB"} {
		d, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		d.Parts["fleet"] = Part{
			Title: "Fleet", About: "How.", Date: "2026-01-01", Commit: "abc", Command: "`make bench`", Machine: "a machine",
			Rows:  []Row{{What: "memory", Goal: "8 MiB", Measured: measured, Missed: "too much"}},
			Table: [][]string{{"groups"}, {"10"}}, Notes: []string{"A note."},
		}
		if err := d.Save(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, page))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Page\n", "| memory | 8 MiB | - | $1 MiB |\n", "- memory: too much\n", "### Fleet\n\nHow.\n\nMeasured on 2026-01-01 at commit abc by `make bench`, on a machine.\n",
		"| groups |\n|---|\n| 10 |\n\nA note.\n", "The rest costs $1.\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	for _, not := range []string{"old", "9 MiB"} {
		if strings.Contains(string(got), not) {
			t.Errorf("has %q:\n%s", not, got)
		}
	}
}

func TestTheSamePointsGiveTheSamePlot(t *testing.T) {
	series := []Series{{"memory", []Point{{X: 10, Y: 3}, {X: 100, Y: 12}}}, {"CPU", []Point{{X: 10, Y: 1}, {X: 100, Y: 9}}}}
	first, err := Draw(series)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Draw(series)
	if err != nil || string(first) != string(second) || !strings.Contains(string(first), "<svg") {
		t.Errorf("%v, %d and %d bytes", err, len(first), len(second))
	}
}
