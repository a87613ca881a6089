package document

import (
	"bytes"
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Series is one measure by the number of groups.
type Series struct {
	Title  string
	Points []Point
}

// Point is a measure at a number of groups.
type Point = plotter.XY

// The colours can be told apart by people who see few colours (Okabe and Ito).
var (
	blue = color.RGBA{G: 114, B: 178, A: 255}
	grey = color.RGBA{R: 153, G: 153, B: 153, A: 255}
)

// Draw draws series side by side as SVG, each with the line on which it would be if it grew with the
// number of groups from its first point on.
func Draw(all []Series) ([]byte, error) {
	charts := [][]*plot.Plot{make([]*plot.Plot, len(all))}
	for i, s := range all {
		p := plot.New()
		p.Title.Text, p.X.Label.Text = s.Title, "groups, each with ten runners"
		p.Title.TextStyle.Font.Size, p.X.Label.TextStyle.Font.Size = 10, 8
		p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = 7, 7
		p.Y.Min, p.X.Min = 0, 0
		points, err := plotter.NewScatter(plotter.XYs(s.Points))
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", s.Title, err)
		}
		line, err := plotter.NewLine(plotter.XYs(s.Points))
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", s.Title, err)
		}
		first, last := s.Points[0], s.Points[len(s.Points)-1]
		linear, err := plotter.NewLine(plotter.XYs{first, {X: last.X, Y: first.Y * last.X / first.X}})
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", s.Title, err)
		}
		points.Color, line.Color, linear.Color = blue, blue, grey
		linear.Dashes = []vg.Length{vg.Points(3), vg.Points(3)}
		p.Add(plotter.NewGrid(), linear, line, points)
		charts[0][i] = p
	}
	canvas := vgsvg.New(3*vg.Inch*vg.Length(len(all)), 2.4*vg.Inch)
	tiles := draw.Tiles{Rows: 1, Cols: len(all), PadX: vg.Points(10), PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4), PadRight: vg.Points(8)}
	for i, area := range plot.Align(charts, tiles, draw.New(canvas))[0] {
		charts[0][i].Draw(area)
	}
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return nil, fmt.Errorf("draw: %w", err)
	}
	return svg.Bytes(), nil
}
