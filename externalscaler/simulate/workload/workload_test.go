package workload_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bitbucket-runner-scaler/externalscaler/simulate/workload"
)

var labels = []string{"self.hosted", "builds"}

func TestMadeUpWorkloadsAreTheSameForTheSameSeed(t *testing.T) {
	for _, shape := range workload.Shapes() {
		s := workload.Synthetic{Shape: shape, Steps: 1000, Days: 2, Labels: labels, Seed: 7}
		first := s.Make()
		if diff := cmp.Diff(first, s.Make()); diff != "" {
			t.Errorf("%s: the same seed makes another workload: %s", shape, diff)
		}
		if n := first.Steps(); n < 2000 || n > 2060 {
			t.Errorf("%s: %d steps in two days of 1000", shape, n)
		}
		s.Seed = 8
		if cmp.Equal(first, s.Make()) {
			t.Errorf("%s: another seed makes the same workload", shape)
		}
		for i, p := range first.Pipelines {
			if p.At.Before(first.Start) || !p.At.Before(first.End) || i > 0 && p.At.Before(first.Pipelines[i-1].At) {
				t.Fatalf("%s: pipeline %d begins at %v, outside of the days or before the one before", shape, i, p.At)
			}
			for j, step := range p.Steps {
				for _, before := range step.After {
					if before >= j {
						t.Fatalf("%s: step %d of pipeline %d comes after step %d", shape, j, i, before)
					}
				}
			}
		}
	}
}

// perHour counts the steps of each hour of the day.
func perHour(w workload.Workload) (steps [24]int) {
	for _, p := range w.Pipelines {
		steps[p.At.Hour()] += len(p.Steps)
	}
	return steps
}

func TestAWorkingDayHasADipAtLunch(t *testing.T) {
	got := perHour(workload.Synthetic{Shape: workload.Day, Steps: 10_000, Days: 1, Labels: labels, Seed: 1}.Make())
	if got[12] > got[10]*3/4 || got[12] > got[15]*3/4 || got[3] > got[10]/10 {
		t.Errorf("steps per hour %v, want fewer at noon than at 10 and 15, and few at night", got)
	}
}

func TestBurstsComeTogether(t *testing.T) {
	// The busiest minutes have a large part of all steps, which a steady workload spreads.
	part := func(shape workload.Shape) float64 {
		w := workload.Synthetic{Shape: shape, Steps: 5000, Days: 1, Labels: labels, Seed: 1}.Make()
		minutes := map[time.Time]int{}
		for _, p := range w.Pipelines {
			minutes[p.At.Truncate(time.Minute)] += len(p.Steps)
		}
		busy := 0
		for _, n := range minutes {
			if n >= 12 {
				busy += n
			}
		}
		return float64(busy) / float64(w.Steps())
	}
	if bursty, steady := part(workload.Bursty), part(workload.Steady); bursty < 0.4 || steady > 0.2 {
		t.Errorf("busy minutes have %.0f %% of the steps of a bursty and %.0f %% of a steady workload", 100*bursty, 100*steady)
	}
}

const example = `arrival,duration,labels,pipeline,step,after
2026-01-05T09:30:00Z,2m,self.hosted linux builds,1,Build,
,150,builds,1,Test,Build
,1m30s,-,1,Scan,Build
,10,builds,1,Deploy,Test; Scan
# a step of its own
2026-01-05T09:10:00Z,60,gpu,,,
`

func TestCSVIsRead(t *testing.T) {
	got, err := workload.ReadCSV("example", strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)
	want := workload.Workload{Name: "example", Start: at, End: at.Add(time.Hour), Pipelines: []workload.Pipeline{
		{At: at.Add(10 * time.Minute), Steps: []workload.Step{{Name: "Step 1", Labels: []string{"gpu"}, Duration: time.Minute}}},
		{At: at.Add(30 * time.Minute), Steps: []workload.Step{
			{Name: "Build", Labels: []string{"self.hosted", "linux", "builds"}, Duration: 2 * time.Minute},
			{Name: "Test", Labels: []string{"builds"}, Duration: 150 * time.Second, After: []int{0}},
			{Name: "Scan", Duration: 90 * time.Second, After: []int{0}},
			{Name: "Deploy", Labels: []string{"builds"}, Duration: 10 * time.Second, After: []int{1, 2}},
		}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Steps() != 4 || len(got.LabelSets()) != 3 {
		t.Errorf("%d steps need a runner, of %d label sets, want 4 of 3", got.Steps(), len(got.LabelSets()))
	}
}

func TestAllFaultsOfACSVAreReportedAtOnce(t *testing.T) {
	_, err := workload.ReadCSV("bad", strings.NewReader(`arrival,duration,labels,pipeline,step,after
yesterday,-5,,1,Build,
,soon,Builds,1,Build,Test
1m,9999h,x,,,Build
1m,1m,x,1,Other,
a,b,c,d,e,f,g
`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`line 2: arrival: "yesterday", want a time such as`, `line 2: duration: "-5", want a duration such as`, `line 2: labels: "", want the labels`,
		`line 3: duration: "soon"`, `line 3: labels: "Builds", want labels of lower-case letters`, `line 3: after: "Test", want the names of steps`, `line 3: step: "Build", want a name that no other`,
		`line 4: duration: "9999h", want a duration such as 2m30s or 150 (seconds), above 0, at most 168h`, `line 4: after: "Build"`,
		`line 5: arrival: "1m", want "yesterday" as in the first line of pipeline 1, or nothing`, `line 6: line: "a,b,c,d,e,f,g", want at most 6 fields`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
	for given, want := range map[string]string{
		"":                                   "no first line with the names of the columns arrival, duration, labels",
		"arrival,durration,labels\n":         `line 1: column: "durration", want duration?`,
		"arrival,duration\n":                 `line 1: column: "", want labels: it is missing`,
		"arrival,duration,labels,labels\n":   "each column once",
		"arrival,duration,labels\n":          "no steps, want at least one line",
		"arrival,duration,labels\n1,0,x\n":   `line 2: duration: "0", want a duration`,
		"arrival,duration,labels\n1,-5m,x\n": `line 2: duration: "-5m", want a duration`,
		"arrival,duration,labels\n\"1,2,3\n": "read the workload: ",
	} {
		if _, err := workload.ReadCSV("bad", strings.NewReader(given)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", given, err, want)
		}
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := workload.Synthetic{
			Shape: rapid.SampledFrom(workload.Shapes()).Draw(t, "shape"), Steps: rapid.IntRange(1, 200).Draw(t, "steps"), Days: rapid.IntRange(1, 3).Draw(t, "days"), Labels: labels,
			Seed: rapid.Uint64().Draw(t, "seed"),
		}
		want := workload.New("w", s.Make().Pipelines)
		var out bytes.Buffer
		if err := want.WriteCSV(&out); err != nil {
			t.Fatal(err)
		}
		got, err := workload.ReadCSV("w", &out)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Fatalf("%v: %s", err, diff)
		}
	})
}

func FuzzReadCSV(f *testing.F) {
	f.Add(example)
	f.Add("arrival,duration,labels\n1,2,x\n")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := workload.ReadCSV("fuzz", strings.NewReader(text))
		if err != nil {
			return
		}
		if err := w.WriteCSV(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}
