package emulator

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	defaultPageLength = 10
	maxPageLength     = 100
	// maxHistory bounds how many past lists of a scope are kept.
	maxHistory = 1000
)

// page is one page of a list in Bitbucket's schema.
type page[T any] struct {
	Page     int    `json:"page"`
	Values   []T    `json:"values"`
	Size     int    `json:"size"`
	PageLen  int    `json:"pagelen"`
	Next     string `json:"next,omitempty"`
	Previous string `json:"previous,omitempty"`
}

// pageOf returns the page that a call asks for.
func pageOf(c *call) (number, length int, refusal answer, ok bool) {
	number, length = 1, defaultPageLength
	query := c.URL.Query()
	if given := query.Get("page"); given != "" {
		var err error
		if number, err = strconv.Atoi(given); err != nil || number < 1 || number > 1<<20 {
			return 0, 0, failure(http.StatusBadRequest, "Invalid page"), false
		}
	}
	if given := query.Get("pagelen"); given != "" {
		var err error
		if length, err = strconv.Atoi(given); err != nil || length < 1 || length > maxPageLength {
			return 0, 0, failure(http.StatusBadRequest, fmt.Sprintf("Invalid pagelen: 1 to %d", maxPageLength)), false
		}
	}
	return number, length, answer{}, true
}

// cutPage returns one page of the whole list, with absolute links to the pages next to it.
func cutPage[T any](c *call, all []T, number, length int) page[T] {
	from := min((number-1)*length, len(all))
	to := min(from+length, len(all))
	p := page[T]{Page: number, Values: append([]T{}, all[from:to]...), Size: len(all), PageLen: length}
	link := func(number int) string {
		query := c.URL.Query()
		query.Set("page", strconv.Itoa(number))
		return c.base + (&url.URL{Path: c.URL.Path, RawPath: c.URL.RawPath, RawQuery: query.Encode()}).String()
	}
	if to < len(all) {
		p.Next = link(number + 1)
	}
	if number > 1 {
		p.Previous = link(number - 1)
	}
	return p
}

// snapshot is a scope's list of runners at one time.
type snapshot struct {
	at      time.Time
	runners []runner
}

// changed is called after every change of a scope's list.
func (s *Server) changed(sc *scope, now time.Time) {
	s.observe(sc)
	if lag := s.rules.LongestLag(); lag > 0 {
		sc.remember(now, lag)
	}
}

// keepHistory starts or stops keeping past lists, depending on the rules.
func (s *Server) keepHistory(now time.Time) {
	lag := s.rules.LongestLag()
	for _, w := range s.workspaces {
		for _, sc := range w.scopes() {
			sc.history = nil
			if lag > 0 {
				sc.remember(now, lag)
			}
		}
	}
}

func (w *workspace) scopes() []*scope {
	all := make([]*scope, 0, 1+len(w.repositories))
	all = append(all, w.scope)
	for _, r := range w.repositories {
		all = append(all, r.scope)
	}
	return all
}

func (sc *scope) remember(now time.Time, lag time.Duration) {
	past := snapshot{at: now, runners: make([]runner, 0, len(sc.runners))}
	for _, r := range sc.runners {
		past.runners = append(past.runners, *r)
	}
	sc.history = append(sc.history, past)
	// The newest snapshot that is older than the lag is still shown.
	for len(sc.history) > maxHistory || len(sc.history) > 1 && now.Sub(sc.history[1].at) > lag {
		sc.history = sc.history[1:]
	}
}

// asOf returns the list at a time, or the oldest one that is kept.
func (sc *scope) asOf(at time.Time) []runner {
	if len(sc.history) == 0 {
		return nil
	}
	shown := sc.history[0]
	for _, past := range sc.history[1:] {
		if past.at.After(at) {
			break
		}
		shown = past
	}
	return shown.runners
}
