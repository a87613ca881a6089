package lint

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
)

// maxRegistered is Bitbucket's limit of runners per workspace or repository.
const maxRegistered = 100

// setRules are the rules about all ScaledJobs together.
func setRules() []entry {
	return []entry{
		{Rule: rule("overlapping-labels", Error, "two groups in one scope with equal labels: Bitbucket cannot distinguish their runners, and the scaler refuses the younger group", "give each group a label of its own"), all: overlapping},
		{Rule: rule("labels-subset", Warning, "a group whose labels another group in its scope has too: its steps may run on the other group's runners", "give the group with fewer labels a label that the other group does not have"), all: subset},
		{Rule: rule("scope-limit", Error, "more than 100 runners in a workspace or repository over all groups: Bitbucket does not register more", "lower the groups' `max`"), all: scopeLimit},
		{Rule: rule("hourly-budget", Error, "more runners per hour than a credentials set can register and remove within its hourly budget of calls", "raise `maxAge`, lower `max`, do without `ephemeral`, or distribute the groups over several sets"), all: hourlyBudget},
		{Rule: rule("stretched-lists", Warning, "so many scopes share a credentials set that each is listed less often than the poll interval says, for the hourly budget of calls", "distribute the groups over several sets, or use workspaces rather than their repositories"), all: stretchedLists},
		{Rule: rule("missing-credentials", Error, "a credentials set that is missing, is not usable, or does not serve the namespace (with --credentials-dir)", "create the set, or add the namespace to its key `namespaces`"), all: missingCredentials},
	}
}

// scope returns the workspace or repository in lower case. A file does not show
// which UUID a slug belongs to.
func (j *job) scope() string {
	name := bitbucket.Scope{Workspace: j.group.Workspace, Repository: j.group.Repository}
	return strings.ToLower(name.String())
}

// pairs calls f with each two valid groups of one scope.
func pairs(jobs []*job, f func(a, b *job)) {
	for i, b := range jobs {
		for _, a := range jobs[:i] {
			// The same ScaledJob in two inputs is one group.
			if a.invalid == nil && b.invalid == nil && a.scope() == b.scope() && a.id() != b.id() {
				f(a, b)
			}
		}
	}
}

func overlapping(jobs []*job, _ Options, add reportAt) {
	pairs(jobs, func(a, b *job) {
		if a.group.SameRunners(b.group) {
			add(b, fmt.Sprintf("labels %s in %s are also the labels of %s (%s)", strings.Join(b.group.Labels, ","), b.scope(), a.id(), a.file), b.metadata("labels")...)
		}
	})
}

func subset(jobs []*job, _ Options, add reportAt) {
	within := func(small, large *job) {
		if small.group.OS != large.group.OS || len(small.group.Labels) >= len(large.group.Labels) {
			return
		}
		for _, label := range small.group.Labels {
			if !slices.Contains(large.group.Labels, label) {
				return
			}
		}
		add(small, fmt.Sprintf("labels %s in %s are among the labels of %s (%s)", strings.Join(small.group.Labels, ","), small.scope(), large.id(), large.file), small.metadata("labels")...)
	}
	pairs(jobs, func(a, b *job) {
		within(a, b)
		within(b, a)
	})
}

// grouped calls f with the distinct valid groups of each key, in the order of keys.
func grouped(jobs []*job, key func(*job) string, f func(key string, jobs []*job)) {
	by, seen := map[string][]*job{}, map[string]bool{}
	for _, j := range jobs {
		if j.invalid == nil && !seen[j.id()] {
			seen[j.id()] = true
			by[key(j)] = append(by[key(j)], j)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(by)) {
		f(k, by[k])
	}
}

func scopeLimit(jobs []*job, _ Options, add reportAt) {
	grouped(jobs, (*job).scope, func(name string, jobs []*job) {
		sum := 0
		for _, j := range jobs {
			sum += j.group.Highest()
		}
		if sum > maxRegistered {
			last := jobs[len(jobs)-1]
			add(last, fmt.Sprintf("%d runners in %s over %d groups, want at most %d", sum, name, len(jobs), maxRegistered), last.metadata("max")...)
		}
	})
}

// forecasts calls f with what becomes of each credentials set's hourly budget. A runner
// lives for maxAge, or if it is ephemeral for an assumed time.
func forecasts(jobs []*job, options Options, f func(set string, last *job, scopes int, forecast bitbucket.Forecast)) {
	set := func(j *job) string { return cmp.Or(j.group.Credentials, credentials.Default) }
	grouped(jobs, set, func(name string, jobs []*job) {
		demand := bitbucket.Demand{PollInterval: options.PollInterval, Lives: map[string]float64{}}
		for _, j := range jobs {
			life := j.group.MaxAge
			if j.group.Rules.Ephemeral {
				life = options.EphemeralLife
			}
			lives := 0.0
			if life > 0 {
				lives = float64(j.group.Highest()) * time.Hour.Hours() / life.Hours()
			}
			demand.Lives[j.scope()] += lives
		}
		f(name, jobs[len(jobs)-1], len(demand.Lives), demand.Forecast(options.HourlyBudget))
	})
}

func hourlyBudget(jobs []*job, options Options, add reportAt) {
	forecasts(jobs, options, func(set string, last *job, _ int, f bitbucket.Forecast) {
		if f.Others > f.MostOthers {
			add(last, fmt.Sprintf("credentials %q need %.0f calls per hour to register and remove runners, and of %d calls per hour %.0f may be used for that",
				set, f.Others, options.HourlyBudget, f.MostOthers), last.metadata("credentials")...)
		}
	})
}

func stretchedLists(jobs []*job, options Options, add reportAt) {
	forecasts(jobs, options, func(set string, last *job, scopes int, f bitbucket.Forecast) {
		if f.Interval > options.PollInterval {
			add(last, fmt.Sprintf("the %d scopes of credentials %q are listed about every %s, rather than every %s: %.0f lists and %.0f other calls per hour are more than %d less the reserve",
				scopes, set, f.Interval.Round(time.Second), options.PollInterval, f.Lists, f.Others, options.HourlyBudget), last.metadata("credentials")...)
		}
	})
}

func missingCredentials(jobs []*job, options Options, add reportAt) {
	if options.CredentialsDir == "" {
		return
	}
	store := credentials.NewStore(options.CredentialsDir, func(string) (string, bool) { return "", false },
		func(string, bitbucket.Credentials) (*bitbucket.Client, error) { return nil, nil }) //nolint:nilnil // the client is not used; the rule only checks that the set can be read
	for _, j := range jobs {
		if j.invalid != nil {
			continue
		}
		if _, err := store.Client(cmp.Or(j.group.Credentials, credentials.Default), j.Namespace); err != nil {
			add(j, err.Error(), j.metadata("credentials")...)
		}
	}
}
