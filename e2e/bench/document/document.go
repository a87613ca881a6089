// Package document keeps what was measured, and writes it into docs/benchmarks.md. It measures
// nothing.
package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Row is one measurement.
type Row struct {
	What string `json:"what"`
	Goal string `json:"goal,omitempty"`
	// Reference is the figure beside it, of the same run.
	Reference string `json:"reference,omitempty"`
	Measured  string `json:"measured"`
	// Missed says by how much it misses its goal, why, and what would fix it; empty if it does not.
	Missed string `json:"missed,omitempty"`
}

// Part is what is measured together.
type Part struct {
	Title string `json:"title"`
	// About says how it was measured.
	About   string `json:"about"`
	Command string `json:"command"`
	Date    string `json:"date"`
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
	// Rows are the goals of the design. Table has further figures, the first line its names.
	Rows  []Row      `json:"rows,omitempty"`
	Table [][]string `json:"table,omitempty"`
	// Notes come after the tables.
	Notes []string `json:"notes,omitempty"`
}

// Names of the parts, in the order of the page.
var Names = []string{"calls", "fleet", "sidecars", "sidecar", "simulated", "incumbent", "cluster", "soak"}

// Document is what was measured, by the name of its part.
type Document struct {
	dir   string // docs/
	Parts map[string]Part
}

// The files in docs/.
const (
	page   = "benchmarks.md"
	values = "benchmarks/measured.json"
	// Growth is the plot, as the page names it.
	Growth = "benchmarks/growth.svg"
	// Soak is the plot of the soak.
	Soak = "benchmarks/soak.svg"
)

// Open reads what was measured so far. dir is the folder docs.
func Open(dir string) (*Document, error) {
	d := &Document{dir: dir, Parts: map[string]Part{}}
	raw, err := os.ReadFile(filepath.Join(dir, values))
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &d.Parts)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was measured: %w", err)
	}
	return d, nil
}

// marked is the part of the page that this package writes.
var marked = regexp.MustCompile(`(?s)(<!-- speed: [^>]* -->\n).*(<!-- end of speed -->)`)

// Page returns the page as it should be.
func (d *Document) Page() (string, error) {
	raw, err := os.ReadFile(filepath.Join(d.dir, page))
	if err != nil {
		return "", fmt.Errorf("read the page: %w", err)
	}
	if !marked.Match(raw) {
		return "", fmt.Errorf("%s has no part for the speed", page)
	}
	return marked.ReplaceAllString(string(raw), "${1}"+strings.ReplaceAll(d.text(), "$", "$$")+"\n${2}"), nil
}

// Save writes what was measured, and the page.
func (d *Document) Save() error {
	text, err := d.Page()
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(d.Parts, "", " ")
	if err != nil {
		return fmt.Errorf("encode what was measured: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, values), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write what was measured: %w", err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, page), []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// WriteGrowth writes the plot.
func (d *Document) WriteGrowth(svg []byte) error {
	if err := os.WriteFile(filepath.Join(d.dir, Growth), svg, 0o644); err != nil {
		return fmt.Errorf("write the plot: %w", err)
	}
	return nil
}

// text is the marked part: all goals in one table, what misses its goal, and then each part.
func (d *Document) text() string {
	var b strings.Builder
	goals := [][]string{{"what", "goal", "reference in the same run", "measured"}}
	var missed []string
	for _, name := range Names {
		for _, r := range d.Parts[name].Rows {
			goals = append(goals, []string{r.What, r.Goal, r.Reference, r.Measured})
			if r.Missed != "" {
				missed = append(missed, "- "+r.What+": "+r.Missed)
			}
		}
	}
	b.WriteString("\n")
	table(&b, goals)
	if len(missed) > 0 {
		b.WriteString("\nMissed:\n\n" + strings.Join(missed, "\n") + "\n")
	}
	for _, name := range Names {
		p, ok := d.Parts[name]
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\nMeasured on %s at commit %s by %s, on %s.\n", p.Title, p.About, p.Date, p.Commit, p.Command, p.Machine)
		if len(p.Table) > 0 {
			b.WriteString("\n")
			table(&b, p.Table)
		}
		for _, note := range p.Notes {
			b.WriteString("\n" + note + "\n")
		}
	}
	return b.String()
}

// table writes a table in Markdown, of which the first line has the names.
func table(b *strings.Builder, lines [][]string) {
	for i, line := range lines {
		cells := slices.Clone(line)
		for c := range cells {
			if cells[c] == "" {
				cells[c] = "-"
			}
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|" + strings.Repeat("---|", len(line)) + "\n")
		}
	}
}
