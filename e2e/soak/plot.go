package main

import (
	"errors"
	"fmt"
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that people who see few colours can tell apart (Okabe and Ito).
var palette = []color.RGBA{
	{G: 114, B: 178, A: 255}, {R: 230, G: 159, A: 255}, {G: 158, B: 115, A: 255}, {R: 213, G: 94, A: 255},
}

// line is one line of a chart.
type line struct {
	name   string
	points plotter.XYs
}

// draw draws the samples over time to an SVG file: memory and goroutines of each pod of the
// scaler, and runners and Jobs.
func (s *soak) draw(path string) (err error) {
	var charts [][]*plot.Plot
	for _, c := range []struct {
		title string
		lines []line
	}{
		{"Resident memory of each replica, MiB", s.perPod(func(p process) float64 { return p.Resident / mebi })},
		{"Goroutines of each replica", s.perPod(func(p process) float64 { return p.Goroutines })},
		{"Runners at Bitbucket, and Jobs", []line{
			s.line("runners", func(n sample) float64 { return float64(n.Runners) }),
			s.line("Jobs", func(n sample) float64 { return float64(n.Jobs) }),
		}},
	} {
		p := plot.New()
		p.Title.Text, p.X.Label.Text, p.Y.Min = c.title, "minutes", 0
		p.Title.TextStyle.Font.Size, p.X.Label.TextStyle.Font.Size = 11, 9
		p.Legend.TextStyle.Font.Size, p.Legend.Top = 8, false
		p.Add(plotter.NewGrid())
		for i, l := range c.lines {
			drawn, err := plotter.NewLine(l.points)
			if err != nil {
				return fmt.Errorf("plot %s: %w", c.title, err)
			}
			drawn.Color = palette[i%len(palette)]
			p.Add(drawn)
			p.Legend.Add(l.name+"   ", drawn) // the SVG's font is wider than the measured one
		}
		charts = append(charts, []*plot.Plot{p})
	}
	canvas := vgsvg.New(9*vg.Inch, vg.Length(len(charts))*2.2*vg.Inch)
	tiles := draw.Tiles{Rows: len(charts), Cols: 1, PadTop: 4, PadBottom: 4, PadLeft: 4, PadRight: 10, PadY: 6}
	for row, areas := range plot.Align(charts, tiles, draw.New(canvas)) {
		charts[row][0].Draw(areas[0])
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = canvas.WriteTo(file)
	return err
}

func (s *soak) line(name string, value func(sample) float64) line {
	l := line{name: name}
	for _, one := range s.samples {
		l.points = append(l.points, plotter.XY{X: one.At.Sub(s.begun).Minutes(), Y: value(one)})
	}
	return l
}

// perPod returns a line for each pod of the scaler, in the order of their first samples.
func (s *soak) perPod(value func(process) float64) (lines []line) {
	index := map[string]int{}
	for _, one := range s.samples {
		for _, p := range one.Processes {
			i, ok := index[p.Pod]
			if !ok {
				i = len(lines)
				index[p.Pod] = i
				lines = append(lines, line{name: fmt.Sprintf("replica %d", i+1)})
			}
			lines[i].points = append(lines[i].points, plotter.XY{X: one.At.Sub(s.begun).Minutes(), Y: value(p)})
		}
	}
	return lines
}
