package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

// The size of a chart in its own units. The style sheet scales it.
const (
	chartWidth, chartHeight = 720, 200
	chartLeft, chartBottom  = 34, 22
	chartTop, chartRight    = 8, 6
	// mostPoints bounds the points of a line: no screen shows more.
	mostPoints = 180
)

// chart draws the numbers of the last hours as SVG. All of its text is made here.
func chart(name string, samples []api.Sample) template.HTML {
	if len(samples) < 2 {
		return ""
	}
	most := 1
	for _, s := range samples {
		most = max(most, s.Queued, s.Busy, s.Online, s.Desired)
	}
	begin, end := samples[0].Time, samples[len(samples)-1].Time
	x := func(t time.Time) float64 {
		return chartLeft + float64(t.Sub(begin))/float64(end.Sub(begin))*(chartWidth-chartLeft-chartRight)
	}
	y := func(n int) float64 {
		return chartTop + (1-float64(n)/float64(most))*(chartHeight-chartTop-chartBottom)
	}
	now := samples[len(samples)-1]
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s from %s to %s UTC: at the end %d queued, %d busy, %d online, %d wanted; at most %d.">`,
		chartWidth, chartHeight, template.HTMLEscapeString(name), begin.Format("15:04"), end.Format("15:04"), now.Queued, now.Busy, now.Online, now.Desired, most)
	for _, n := range []int{0, (most + 1) / 2, most} {
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="axis" x="%d" y="%.1f" text-anchor="end">%d</text>`,
			chartLeft, chartWidth-chartRight, y(n), y(n), chartLeft-5, y(n)+4, n)
	}
	fmt.Fprintf(&b, `<text class="axis" x="%d" y="%d">%s</text><text class="axis" x="%d" y="%d" text-anchor="end">%s UTC</text>`,
		chartLeft, chartHeight-5, begin.Format("15:04"), chartWidth-chartRight, chartHeight-5, end.Format("15:04"))
	for _, series := range []struct {
		class string
		of    func(api.Sample) int
	}{
		{"desired", func(s api.Sample) int { return s.Desired }},
		{"online", func(s api.Sample) int { return s.Online }},
		{"busy", func(s api.Sample) int { return s.Busy }},
		{"queued", func(s api.Sample) int { return s.Queued }},
	} {
		fmt.Fprintf(&b, `<polyline class="%s" points="%s"/>`, series.class, points(samples, x, func(s api.Sample) float64 { return y(series.of(s)) }))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // only numbers and times, and an escaped name
}

// points are those of a line that rises and falls in steps.
func points(samples []api.Sample, x func(time.Time) float64, y func(api.Sample) float64) string {
	var b strings.Builder
	every := (len(samples) + mostPoints - 1) / mostPoints
	last := -1.0
	for i, s := range samples {
		if i%every != 0 && i != len(samples)-1 {
			continue
		}
		at := y(s)
		if last >= 0 && at != last {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(s.Time), last)
		}
		fmt.Fprintf(&b, "%.1f,%.1f ", x(s.Time), at)
		last = at
	}
	return strings.TrimSpace(b.String())
}

// last is the newest of some samples.
func last(samples []api.Sample) api.Sample {
	if len(samples) == 0 {
		return api.Sample{}
	}
	return samples[len(samples)-1]
}
