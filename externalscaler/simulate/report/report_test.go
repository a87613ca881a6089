package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/externalscaler/simulate"
	"bitbucket-runner-scaler/externalscaler/simulate/report"
)

var start = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

func example() report.Report {
	var samples []simulate.Sample
	for i := range 48 {
		samples = append(samples, simulate.Sample{At: start.Add(time.Duration(i) * 30 * time.Minute), Waiting: i % 5, Busy: i % 7, Online: i%7 + 2, Desired: i%7 + 1})
	}
	waits := []time.Duration{0, 0, 5 * time.Second, 90 * time.Second}
	return report.Report{
		Workload: "example", Pipelines: 2, Steps: 4, Start: start, Price: 0.1,
		Results: []simulate.Result{
			{
				Name: "queuedSteps", Steps: 4, Done: 4, Waits: waits, Wait: simulate.Wait{P50: 0, P90: 5500 * time.Millisecond, P95: 90 * time.Second, P99: 90 * time.Second, Max: 90 * time.Second},
				RunnerTime: 36 * time.Hour, IdleTime: 90 * time.Minute, Cost: 3.6, Calls: map[string]int{"list runners": 1440, "register": 12}, Runners: 12, Peak: 9, Samples: samples,
			},
			{Name: "clairvoyant", Steps: 4, Done: 3, Failed: 1, Waits: waits[:3], RunnerTime: time.Hour, Samples: samples},
		},
	}
}

func TestTheTableShowsEachConfiguration(t *testing.T) {
	var out bytes.Buffer
	if err := example().WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	want := `CONFIGURATION  WAIT P50   P90    P95    P99    MAX  FAILED  IDLE HOURS  RUNNER HOURS  COST  CALLS  PEAK
queuedSteps          0s  5.5s  1m30s  1m30s  1m30s       0         1.5          36.0  3.60   1452     9
clairvoyant          0s    0s     0s     0s     0s       1         0.0           1.0  0.00      -     0
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	out.Reset()
	r := example()
	r.Price = 0
	if err := r.WriteMarkdown(&out); err != nil || strings.Contains(out.String(), "cost") || !strings.Contains(out.String(), "\n| queuedSteps | 0s | 5.5s | 1m30s |") {
		t.Errorf("%v, got\n%s", err, out.String())
	}
}

func TestTheJSONHasAllNumbers(t *testing.T) {
	var out bytes.Buffer
	if err := example().WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Steps   int
		Results []struct {
			Configuration string
			WaitSeconds   map[string]float64
			RunnerHours   float64
			Cost          *float64
			Calls         map[string]int
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	first := got.Results[0]
	if got.Steps != 4 || first.WaitSeconds["p95"] != 90 || first.RunnerHours != 36 || *first.Cost != 3.6 || first.Calls["register"] != 12 {
		t.Errorf("got %+v", got)
	}
}

func TestPicturesAreWellFormedAndTheSameEachTime(t *testing.T) {
	draw := func(form string) []byte {
		t.Helper()
		var out bytes.Buffer
		if err := example().Draw(&out, form); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	svg := draw(report.SVG)
	for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"queuedSteps", "clairvoyant", "online", "desired", "busy", "queued", "% of steps"} {
		if !bytes.Contains(svg, []byte(">"+text+"<")) {
			t.Errorf("the picture lacks %q", text)
		}
	}
	if _, err := png.Decode(bytes.NewReader(draw(report.PNG))); err != nil {
		t.Error(err)
	}
	for _, form := range []string{report.SVG, report.PNG} {
		if !bytes.Equal(draw(form), draw(form)) {
			t.Errorf("%s: two pictures of the same results differ", form)
		}
	}
	if err := example().Draw(io.Discard, "gif"); err == nil || !strings.Contains(err.Error(), `"gif", want svg or png`) {
		t.Errorf("got %v, want an error that names the forms", err)
	}
}

func TestEmptyResultsCanBeDrawn(t *testing.T) {
	r := report.Report{Start: start, Results: []simulate.Result{{Name: "nothing"}}}
	if err := r.Draw(io.Discard, report.SVG); err != nil {
		t.Error(err)
	}
}
