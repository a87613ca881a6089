// Package report shows the results of simulations: as a table, as JSON, and as plots.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bitbucket-runner-scaler/externalscaler/simulate"
)

// Report is what was simulated.
type Report struct {
	// Workload names the workload, which has so many pipelines and steps.
	Workload         string
	Pipelines, Steps int
	// Start is when the workload begins.
	Start time.Time
	// Price of an hour of a runner; 0 shows no cost.
	Price   float64
	Results []simulate.Result
}

// Row is a result in words and numbers.
type Row struct {
	Configuration string             `json:"configuration"`
	Wait          map[string]float64 `json:"waitSeconds"`
	Done          int                `json:"done"`
	Failed        int                `json:"failedWithoutRunner"`
	Killed        int                `json:"killed"`
	NotRun        int                `json:"notRun"`
	IdleHours     float64            `json:"idleRunnerHours"`
	RunnerHours   float64            `json:"runnerHours"`
	Cost          *float64           `json:"cost,omitempty"`
	Unserved      int                `json:"unserved"`
	Calls         map[string]int     `json:"calls"`
	CallsPerHour  int                `json:"mostCallsPerHour"`
	Runners       int                `json:"runners"`
	Peak          int                `json:"peakRunners"`
}

// Document is the report as it is written in JSON.
type Document struct {
	Workload  string    `json:"workload"`
	Pipelines int       `json:"pipelines"`
	Steps     int       `json:"steps"`
	Start     time.Time `json:"start"`
	Results   []Row     `json:"results"`
}

// Document returns the report for JSON.
func (r Report) Document() Document {
	document := Document{r.Workload, r.Pipelines, r.Steps, r.Start, make([]Row, len(r.Results))}
	for i, result := range r.Results {
		w := result.Wait
		document.Results[i] = Row{
			Configuration: result.Name, Done: result.Done, Failed: result.Failed, Killed: result.Killed, NotRun: result.NotRun,
			Wait:      map[string]float64{"p50": w.P50.Seconds(), "p90": w.P90.Seconds(), "p95": w.P95.Seconds(), "p99": w.P99.Seconds(), "max": w.Max.Seconds()},
			IdleHours: hours(result.IdleTime), RunnerHours: hours(result.RunnerTime), Unserved: result.Unserved, Calls: result.Calls, CallsPerHour: result.CallsPerHour, Runners: result.Runners, Peak: result.Peak,
		}
		if r.Price > 0 {
			document.Results[i].Cost = &r.Results[i].Cost
		}
	}
	return document
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(to io.Writer) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r.Document())
}

func hours(d time.Duration) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(d.Hours(), 'f', 3, 64), 64) // its own output
	return rounded
}

// cells are the columns of the table, and the lines below.
func (r Report) cells() (names []string, lines [][]string) {
	names = []string{"CONFIGURATION", "WAIT P50", "P90", "P95", "P99", "MAX", "FAILED", "IDLE HOURS", "RUNNER HOURS"}
	if r.Price > 0 {
		names = append(names, "COST")
	}
	names = append(names, "CALLS", "PEAK")
	for _, result := range r.Results {
		w := result.Wait
		line := []string{result.Name, Wait(w.P50), Wait(w.P90), Wait(w.P95), Wait(w.P99), Wait(w.Max), strconv.Itoa(result.Failed + result.Killed), number(result.IdleTime.Hours()), number(result.RunnerTime.Hours())}
		if r.Price > 0 {
			line = append(line, strconv.FormatFloat(result.Cost, 'f', 2, 64))
		}
		calls := strconv.Itoa(result.AllCalls())
		if len(result.Calls) == 0 {
			calls = "-"
		}
		lines = append(lines, append(line, calls, strconv.Itoa(result.Peak)))
	}
	return names, lines
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', 1, 64) }

// Wait shows a time that a step waits.
func Wait(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// WriteTable writes the report as a table for people: names to the left, numbers to the right.
func (r Report) WriteTable(to io.Writer) error {
	names, lines := r.cells()
	lines = append([][]string{names}, lines...)
	widths := make([]int, len(names))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var out strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&out, "%-*s", widths[0], line[0])
		for i, cell := range line[1:] {
			fmt.Fprintf(&out, "  %*s", widths[i+1], cell)
		}
		out.WriteByte('\n')
	}
	_, err := io.WriteString(to, out.String())
	return err
}

// WriteMarkdown writes the table in Markdown.
func (r Report) WriteMarkdown(to io.Writer) error {
	names, lines := r.cells()
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	rule := "|---|" + strings.Repeat("---:|", len(names)-1)
	text := "| " + strings.Join(names, " | ") + " |\n" + rule + "\n"
	for _, line := range lines {
		text += "| " + strings.Join(line, " | ") + " |\n"
	}
	_, err := io.WriteString(to, text)
	return err
}
