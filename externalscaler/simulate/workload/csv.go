package workload

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/pipelines"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
)

// The columns of a CSV file.
const (
	columnArrival    = "arrival"
	columnDuration   = "duration"
	columnLabels     = "labels"
	columnRepository = "repository"
	columnPipeline   = "pipeline"
	columnKind       = "kind"
	columnStep       = "step"
	columnAfter      = "after"
)

var columns = []string{columnArrival, columnDuration, columnLabels, columnRepository, columnPipeline, columnKind, columnStep, columnAfter}

// elsewhere stands for the labels of a step that needs no runner.
const elsewhere = "-"

// required are the columns that a file must have.
var required = []string{columnArrival, columnDuration, columnLabels}

const (
	// maxRows bounds the steps of a file.
	maxRows = 500_000
	// maxReported bounds the faults in an error text.
	maxReported = 30
	// maxDuration bounds a step, and maxOffset an arrival that is given as an offset.
	maxDuration = 7 * 24 * time.Hour
	maxOffset   = 366 * 24 * time.Hour
)

// LineError is one fault of a CSV file.
type LineError struct {
	Line                   int
	Field, Given, Accepted string
}

func (f LineError) Error() string {
	return fmt.Sprintf("line %d: %s: %q, want %s", f.Line, f.Field, f.Given, f.Accepted)
}

// table reads one file.
type table struct {
	reader *csv.Reader
	places map[string]int // of the columns
	faults []LineError
	// runs are the pipelines by their name in the file, and names those of their steps.
	runs  map[string]*run
	order []*run
}

// run is a pipeline as far as it is read.
type run struct {
	Pipeline
	arrival string
}

// ReadCSV reads a workload. The first line names the columns: arrival, duration and labels, and
// optionally repository, pipeline, kind, step and after. The error joins every LineError.
//
// An arrival is an RFC 3339 time or the time since the beginning, such as 1h5m or 90 (seconds).
// Labels are separated by spaces; - stands for a step that runs elsewhere. Rows with the same pipeline are steps of one run; each names the
// steps after which it comes in after, separated by semicolons.
func ReadCSV(name string, from io.Reader) (Workload, error) {
	t := &table{reader: csv.NewReader(from), runs: map[string]*run{}}
	t.reader.FieldsPerRecord = -1
	t.reader.TrimLeadingSpace = true
	t.reader.Comment = '#'
	if err := t.head(); err != nil {
		return Workload{}, err
	}
	for rows := 0; ; rows++ {
		record, err := t.reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Workload{}, fmt.Errorf("read the workload: %w", err)
		}
		if rows == maxRows {
			return Workload{}, fmt.Errorf("read the workload: more than %d steps, want at most that many", maxRows)
		}
		t.row(record)
	}
	if len(t.order) == 0 && len(t.faults) == 0 {
		return Workload{}, errors.New("read the workload: no steps, want at least one line after the first")
	}
	if err := t.err(); err != nil {
		return Workload{}, err
	}
	all := make([]Pipeline, len(t.order))
	for i, r := range t.order {
		all[i] = r.Pipeline
	}
	return New(name, all), nil
}

func (t *table) err() error {
	var errs []error
	for _, f := range t.faults[:min(len(t.faults), maxReported)] {
		errs = append(errs, f)
	}
	if more := len(t.faults) - maxReported; more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

func (t *table) fault(field, given, accepted string) {
	line, _ := t.reader.FieldPos(0)
	t.faults = append(t.faults, LineError{Line: line, Field: field, Given: shorten(given), Accepted: accepted})
}

func shorten(text string) string {
	const most = 64
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// head reads the line that names the columns.
func (t *table) head() error {
	record, err := t.reader.Read()
	if err != nil {
		return fmt.Errorf("read the workload: no first line with the names of the columns %s: %w", strings.Join(required, ", "), err)
	}
	places := map[string]int{}
	for i, given := range record {
		name := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(given, "\ufeff")))
		_, twice := places[name]
		switch {
		case !slices.Contains(columns, name):
			accepted := "one of " + strings.Join(columns, ", ")
			if meant := spelling.Nearest(name, columns); meant != "" {
				accepted = meant + "?"
			}
			t.fault("column", given, accepted)
		case twice:
			t.fault("column", given, "each column once")
		}
		places[name] = i
	}
	for _, name := range required {
		if _, ok := places[name]; !ok {
			t.fault("column", "", name+": it is missing")
		}
	}
	t.places = places
	if len(t.faults) > 0 {
		return t.err() // nothing can be said of the lines
	}
	return nil
}

// row reads one step.
func (t *table) row(record []string) {
	if len(record) > len(t.places) {
		t.fault("line", strings.Join(record, ","), fmt.Sprintf("at most %d fields; labels are separated by spaces", len(t.places)))
		return
	}
	value := func(column string) string {
		if i, ok := t.places[column]; ok && i < len(record) {
			return strings.TrimSpace(record[i])
		}
		return ""
	}
	step := Step{Name: value(columnStep), Labels: t.labels(value(columnLabels)), Duration: t.duration(value(columnDuration))}
	r := t.run(value(columnPipeline), value(columnArrival), value(columnRepository), value(columnKind))
	if step.Name == "" {
		step.Name = fmt.Sprintf("Step %d", len(r.Steps)+1)
	}
	step.After = t.after(r, value(columnAfter), value(columnPipeline))
	if len(r.Steps) > 0 && slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Name == step.Name }) {
		t.fault(columnStep, step.Name, "a name that no other step of the pipeline has")
	}
	r.Steps = append(r.Steps, step)
}

// run returns the pipeline of a row.
func (t *table) run(name, arrival, repository, kind string) *run {
	r := t.runs[name]
	if name == "" || r == nil {
		r = &run{Pipeline: Pipeline{At: t.arrival(arrival), Repository: repository, Kind: kind}, arrival: arrival}
		t.order = append(t.order, r)
		if name != "" {
			t.runs[name] = r
		}
		return r
	}
	if arrival != "" && arrival != r.arrival {
		t.fault(columnArrival, arrival, fmt.Sprintf("%q as in the first line of pipeline %s, or nothing", r.arrival, name))
	}
	if repository != "" && repository != r.Repository {
		t.fault(columnRepository, repository, fmt.Sprintf("%q as in the first line of pipeline %s, or nothing", r.Repository, name))
	}
	return r
}

func (t *table) after(r *run, given, pipeline string) []int {
	var after []int
	for name := range strings.SplitSeq(given, ";") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Name == name })
		if i < 0 || pipeline == "" {
			t.fault(columnAfter, name, "the names of steps on lines before it with the same pipeline, separated by semicolons")
			continue
		}
		after = append(after, i)
	}
	return after
}

func (t *table) labels(given string) pipelines.Labels {
	if given == elsewhere {
		return nil
	}
	labels := pipelines.Labels(strings.FieldsFunc(given, func(r rune) bool { return r == ' ' || r == ',' || r == ';' }))
	if len(labels) == 0 {
		t.fault(columnLabels, given, "the labels of the step's runs-on, separated by spaces, or - for a step that runs elsewhere")
		return nil
	}
	for _, l := range labels {
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789.") != "" || len(l) > 50 {
			t.fault(columnLabels, l, "labels of lower-case letters, digits and dots, at most 50 characters each")
		}
	}
	return labels
}

func (t *table) duration(given string) time.Duration {
	d, ok := span(given)
	if !ok || d <= 0 || d > maxDuration {
		t.fault(columnDuration, given, "a duration such as 2m30s or 150 (seconds), above 0, at most 168h")
	}
	return d
}

// origin is when a workload begins whose arrivals are offsets.
var origin = firstDay

func (t *table) arrival(given string) time.Time {
	if at, err := time.Parse(time.RFC3339, given); err == nil {
		return at.UTC()
	}
	d, ok := span(given)
	if !ok || d < 0 || d > maxOffset {
		t.fault(columnArrival, given, "a time such as 2026-01-05T09:30:00Z, or the time since the beginning such as 1h5m or 90 (seconds)")
	}
	return origin.Add(d)
}

// span reads a duration, or a number of seconds.
func span(given string) (time.Duration, bool) {
	if seconds, err := strconv.ParseFloat(given, 64); err == nil {
		return time.Duration(seconds * float64(time.Second)), seconds >= 0 && seconds < 1e9
	}
	d, err := time.ParseDuration(given)
	return d, err == nil
}

// WriteCSV writes a workload so that ReadCSV reads the same pipelines.
func (w Workload) WriteCSV(to io.Writer) error {
	out := csv.NewWriter(to)
	rows := [][]string{columns}
	for i, p := range w.Pipelines {
		for _, s := range p.Steps {
			after := make([]string, len(s.After))
			for i, place := range s.After {
				after[i] = p.Steps[place].Name
			}
			rows = append(rows, []string{
				p.At.UTC().Format(time.RFC3339Nano), s.Duration.String(), cmp.Or(strings.Join(s.Labels, " "), elsewhere), p.Repository, strconv.Itoa(i + 1), p.Kind, s.Name, strings.Join(after, ";"),
			})
		}
	}
	if err := out.WriteAll(rows); err != nil {
		return fmt.Errorf("write the workload: %w", err)
	}
	return nil
}
