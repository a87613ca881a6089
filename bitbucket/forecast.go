package bitbucket

import "time"

// callsPerRunner are the calls in a runner's life, besides lists: it is registered,
// disabled, read once more and deleted. The read is left out where a list has shown what
// it would show.
const callsPerRunner = 4

// Demand is what the scopes of one credentials set ask of its hourly budget.
type Demand struct {
	// PollInterval is the time between two lists of a scope.
	PollInterval time.Duration
	// Lives are how many runners are registered and removed per hour, by scope. Each
	// scope has an entry.
	Lives map[string]float64
}

// Forecast is what becomes of a Demand once it has lasted for an hour.
type Forecast struct {
	// Lists and Others are the calls per hour that are wanted.
	Lists, Others float64
	// MostOthers is how many calls per hour other than lists are possible.
	MostOthers float64
	// Interval is the time between two lists of a scope that the budget allows.
	Interval time.Duration
}

// Forecast does the arithmetic of the pacer for a budget of limit calls per hour. A
// scope is listed once per interval, and early for each runner that is removed, within
// the bound of early lists.
func (d Demand) Forecast(limit int) Forecast {
	var f Forecast
	perScope := time.Hour.Seconds() / d.PollInterval.Seconds()
	for _, lives := range d.Lives {
		f.Lists += min(max(perScope, lives), 2*perScope)
		f.Others += callsPerRunner * lives
	}
	var factor float64
	factor, f.MostOthers = steadyPace(limit, f.Lists, f.Others)
	f.Interval = time.Duration(float64(d.PollInterval) * factor)
	return f
}

// steadyPace returns the factor that Pace settles at if the scopes of a credentials set
// want so many lists per hour, and so many other calls are made per hour. Other calls
// are refused beyond mostOthers per hour.
func steadyPace(limit int, listsPerHour, othersPerHour float64) (factor, mostOthers float64) {
	calls := float64(limit)
	guaranteed := min(listsPerHour, calls*listGuarantee)
	return stretch(listsPerHour, max(calls*(1-DefaultReserve)-othersPerHour, guaranteed)), calls - guaranteed
}
