package report

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"bitbucket-runner-scaler/externalscaler/simulate"
)

// The forms of a picture.
const (
	SVG = "svg"
	PNG = "png"
)

// The size of one chart.
const (
	chartWidth  = 9 * vg.Inch
	chartHeight = 2.2 * vg.Inch
)

// The colours of the lines can be told apart by people who see few colours (Okabe and Ito).
var (
	orange  = color.RGBA{R: 230, G: 159, A: 255}
	sky     = color.RGBA{R: 86, G: 180, B: 233, A: 255}
	green   = color.RGBA{G: 158, B: 115, A: 255}
	blue    = color.RGBA{G: 114, B: 178, A: 255}
	red     = color.RGBA{R: 213, G: 94, A: 255}
	pink    = color.RGBA{R: 204, G: 121, B: 167, A: 255}
	black   = color.RGBA{A: 255}
	grey    = color.RGBA{R: 153, G: 153, B: 153, A: 255}
	palette = []color.RGBA{blue, orange, green, red, pink, sky, black, grey}
)

// Draw draws, for each result, the waiting steps and the runners over time, and below how the waits
// are distributed. The results must have samples.
func (r Report) Draw(to io.Writer, form string) error {
	if len(r.Results) == 0 {
		return errors.New("draw: no results")
	}
	charts := make([][]*plot.Plot, 0, len(r.Results)+1)
	most, hours := r.most()
	for i, result := range r.Results {
		p, err := r.overTime(result, i == 0)
		if err != nil {
			return fmt.Errorf("draw %s: %w", result.Name, err)
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, hours, 0, float64(most)*1.05+1 // the same for all
		charts = append(charts, []*plot.Plot{p})
	}
	waits, err := r.distribution()
	if err != nil {
		return fmt.Errorf("draw the waits: %w", err)
	}
	charts = append(charts, []*plot.Plot{waits})
	height := chartHeight * vg.Length(len(charts))
	var canvas interface {
		vg.CanvasWriterTo
		vg.CanvasSizer
	}
	switch form {
	case SVG:
		canvas = vgsvg.New(chartWidth, height)
	case PNG:
		canvas = vgimg.PngCanvas{Canvas: vgimg.New(chartWidth, height)}
	default:
		return fmt.Errorf("draw: form %q, want %s or %s", form, SVG, PNG)
	}
	tiles := draw.Tiles{Rows: len(charts), Cols: 1, PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4), PadRight: vg.Points(10), PadY: vg.Points(6)}
	for row, areas := range plot.Align(charts, tiles, draw.New(canvas)) {
		charts[row][0].Draw(areas[0])
	}
	_, err = canvas.WriteTo(to)
	return err
}

// most is the highest number of all samples, and how many hours after the start the last one is.
func (r Report) most() (most int, hours float64) {
	for _, result := range r.Results {
		for _, s := range result.Samples {
			most, hours = max(most, s.Waiting, s.Busy, s.Online, s.Desired), max(hours, s.At.Sub(r.Start).Hours())
		}
	}
	return most, hours
}

// chart makes an empty chart.
func chart(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size, p.X.Label.TextStyle.Font.Size, p.Y.Label.TextStyle.Font.Size = 11, 9, 9
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = 8, 8
	p.Legend.TextStyle.Font.Size = 8
	p.Legend.Top = true
	return p
}

// overTime draws one result over time.
func (r Report) overTime(result simulate.Result, legend bool) (*plot.Plot, error) {
	p := chart(result.Name, "hours since "+r.Start.Format(time.DateTime), "")
	p.X.Tick.Marker = plot.TickerFunc(ticks)
	p.Add(plotter.NewGrid())
	for _, line := range []struct {
		name  string
		color color.RGBA
		width float64
		of    func(simulate.Sample) int
	}{
		{"online", sky, 1.5, func(s simulate.Sample) int { return s.Online }},
		{"desired", grey, 0.75, func(s simulate.Sample) int { return s.Desired }},
		{"busy", blue, 1, func(s simulate.Sample) int { return s.Busy }},
		{"queued", red, 1, func(s simulate.Sample) int { return s.Waiting }},
	} {
		var points plotter.XYs
		for i, s := range result.Samples {
			y := float64(line.of(s))
			if same := i > 0 && points[len(points)-1].Y == y; same && i < len(result.Samples)-1 {
				continue // the line is level
			}
			points = append(points, plotter.XY{X: s.At.Sub(r.Start).Hours(), Y: y})
		}
		drawn, err := lineOf(points, line.color, line.width)
		if err != nil {
			return nil, err
		}
		p.Add(drawn)
		if legend {
			p.Legend.Add(line.name, drawn)
		}
	}
	return p, nil
}

func lineOf(points plotter.XYs, c color.Color, width float64) (*plotter.Line, error) {
	line, err := plotter.NewLine(points)
	if err != nil {
		return nil, err
	}
	line.StepStyle = plotter.PostStep
	line.Color, line.Width = c, vg.Points(width)
	return line, nil
}

// ticks are at round hours.
func ticks(least, most float64) (marks []plot.Tick) {
	step := 1.0
	for _, wider := range []float64{2, 3, 6, 12, 24, 48, 168} {
		if (most-least)/step <= 14 {
			break
		}
		step = wider
	}
	for at := math.Ceil(least/step) * step; at <= most; at += step {
		marks = append(marks, plot.Tick{Value: at, Label: fmt.Sprintf("%g", at)})
	}
	return marks
}

// distribution draws what part of the steps waits at most how long.
func (r Report) distribution() (*plot.Plot, error) {
	p := chart("Which part of the steps waits no longer", "wait in seconds", "% of steps")
	p.Legend.Top = false
	p.Add(plotter.NewGrid())
	shown := shortestShown
	for i, result := range r.Results {
		drawn, err := lineOf(cumulated(result.Waits), palette[i%len(palette)], 1.5)
		if err != nil {
			return nil, err
		}
		if i >= len(palette) {
			drawn.Dashes = []vg.Length{vg.Points(4), vg.Points(2)}
		}
		p.Add(drawn)
		p.Legend.Add(strings.TrimSpace(result.Name), drawn)
		shown = max(shown, result.Wait.P95)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, min(shown, longestShown).Seconds(), 0, 100
	return p, nil
}

// shortestShown and longestShown bound the axis of waits.
const (
	shortestShown = time.Minute
	longestShown  = 20 * time.Minute
)

// mostPoints bounds the points of one line.
const mostPoints = 200

// cumulated are the points of a distribution.
func cumulated(waits []time.Duration) (points plotter.XYs) {
	for i := range mostPoints + 1 {
		if len(waits) == 0 {
			break
		}
		n := max(1, i*len(waits)/mostPoints)
		if points = append(points, plotter.XY{X: min(waits[n-1], longestShown).Seconds(), Y: 100 * float64(n) / float64(len(waits))}); waits[n-1] > longestShown {
			break
		}
	}
	return slices.Clip(points)
}
