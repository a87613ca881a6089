// Package paging cuts Bitbucket's lists into pages.
package paging

import (
	"fmt"
	"net/url"
	"strconv"
)

const (
	defaultLength = 10
	maxLength     = 100
)

// Page is one page of a list in Bitbucket's schema.
type Page[T any] struct {
	Page     int    `json:"page"`
	Values   []T    `json:"values"`
	Size     int    `json:"size"`
	PageLen  int    `json:"pagelen"`
	Next     string `json:"next,omitempty"`
	Previous string `json:"previous,omitempty"`
}

// Asked is the page that a call asks for.
type Asked struct {
	Number, Length int
	url            *url.URL
	base           string
}

// Of reads the page that a URL asks for. Links to other pages start with the base.
func Of(u *url.URL, base string) (Asked, error) {
	a := Asked{Number: 1, Length: defaultLength, url: u, base: base}
	query := u.Query()
	if given := query.Get("page"); given != "" {
		var err error
		if a.Number, err = strconv.Atoi(given); err != nil || a.Number < 1 || a.Number > 1<<20 {
			return Asked{}, fmt.Errorf("invalid page: %q", given)
		}
	}
	if given := query.Get("pagelen"); given != "" {
		var err error
		if a.Length, err = strconv.Atoi(given); err != nil || a.Length < 1 || a.Length > maxLength {
			return Asked{}, fmt.Errorf("invalid pagelen: %q, want 1 to %d", given, maxLength)
		}
	}
	return a, nil
}

// Cut returns one page of the whole list, with absolute links to the pages next to it.
func Cut[T any](a Asked, all []T) Page[T] {
	from := min((a.Number-1)*a.Length, len(all))
	to := min(from+a.Length, len(all))
	p := Page[T]{Page: a.Number, Values: append([]T{}, all[from:to]...), Size: len(all), PageLen: a.Length}
	if to < len(all) {
		p.Next = a.link(a.Number + 1)
	}
	if a.Number > 1 {
		p.Previous = a.link(a.Number - 1)
	}
	return p
}

func (a Asked) link(number int) string {
	query := a.url.Query()
	query.Set("page", strconv.Itoa(number))
	return a.base + (&url.URL{Path: a.url.Path, RawPath: a.url.RawPath, RawQuery: query.Encode()}).String()
}

// Map returns the page with each value changed.
func Map[T, U any](p Page[T], change func(T) U) Page[U] {
	values := make([]U, 0, len(p.Values))
	for _, value := range p.Values {
		values = append(values, change(value))
	}
	return Page[U]{p.Page, values, p.Size, p.PageLen, p.Next, p.Previous}
}
