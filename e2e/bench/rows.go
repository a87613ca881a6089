package main

import (
	"fmt"
	"time"

	"bitbucket-runner-scaler/e2e/bench/document"
)

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// goal is a row whose value should be at most some other. why says what a value above it comes
// from, and what would fix it.
func goal(what string, value, most float64, format, reference, why string) document.Row {
	row := document.Row{What: what, Goal: fmt.Sprintf("%v%s", most, unit(fmt.Sprintf(format, most))), Reference: reference, Measured: fmt.Sprintf(format, value)}
	switch {
	case !(value > 0): // nothing was counted, or NaN
		row.Measured, row.Missed = notMeasured, notMeasured+"."
	case value > most:
		row.Missed = fmt.Sprintf("%s instead of %s, %.0f %% more. %s", row.Measured, row.Goal, 100*(value/most-1), why)
	}
	return row
}

// notMeasured stands for a figure that is not there.
const notMeasured = "not measured"

// unit is the unit of a figure with one, with the space before it.
func unit(figure string) string {
	for i, c := range figure {
		if c == ' ' {
			return figure[i:]
		}
	}
	return ""
}

// ratio is a row about a time that should be at most so many times that of the reference.
func ratio(what string, took, reference time.Duration, most float64) document.Row {
	times := float64(took) / float64(reference)
	row := document.Row{
		What: what, Goal: "as fast as an empty handler", Reference: fmt.Sprintf("empty handler: %.3f ms", ms(reference)),
		Measured: fmt.Sprintf("%.3f ms, %.2f times the reference", ms(took), times),
	}
	if times > most {
		row.Missed = fmt.Sprintf("%.2f times the time of an empty handler. The metrics and the panic guard are interceptors of each call, and the metadata is compared with the ScaledJob's.", times)
	}
	return row
}
