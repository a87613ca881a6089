package bitbucket

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"
)

// page is a list page of runners named by single letters.
func page(next string, size int, names ...string) string {
	values := make([]string, 0, len(names))
	for _, n := range names {
		values = append(values, fmt.Sprintf(`{"uuid":"{%s}","name":%q}`, n, n))
	}
	return fmt.Sprintf(`{"page":1,"size":%d,"pagelen":%d,"next":%q,"values":[%s]}`, size, len(names), next, strings.Join(values, ","))
}

func TestListRunnersReadsEachPageOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		pages   []string // HOST stands for the server's address
		want    string
		queries []string
	}{
		"one page":            {[]string{page("", 2, "a", "b")}, "ab", []string{"pagelen=100"}},
		"no runners":          {[]string{page("", 0)}, "", []string{"pagelen=100"}},
		"next links":          {[]string{page("HOST"+listPath+"?page=2&pagelen=100", 3, "a", "b"), page("", 3, "c")}, "abc", []string{"pagelen=100", "page=2&pagelen=100"}},
		"relative next link":  {[]string{page("?page=2", 2, "a"), page("", 2, "b")}, "ab", []string{"pagelen=100", "page=2"}},
		"runners shifted":     {[]string{page("HOST"+listPath+"?page=2", 4, "a", "b"), page("", 4, "b", "c")}, "abc", []string{"pagelen=100", "page=2", "page=3&pagelen=100"}},
		"size without a link": {[]string{page("", 3, "a", "b"), page("", 3, "c")}, "abc", []string{"pagelen=100", "page=2&pagelen=100"}},
		"wrong size":          {[]string{page("", 9, "a"), page("", 9)}, "a", []string{"pagelen=100", "page=2&pagelen=100"}},
	} {
		t.Run(name, func(t *testing.T) {
			var rec *recorder
			rec = serve(t, func(w http.ResponseWriter, _ *http.Request, number int) {
				body := page("", 0)
				if number <= len(tc.pages) {
					body = tc.pages[number-1]
				}
				answer(w, http.StatusOK, strings.ReplaceAll(body, "HOST", rec.URL))
			})
			begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			list, err := rec.client(t, func(cfg *Config) { cfg.Clock = testclock.NewFakePassiveClock(begun) }).ListRunners(t.Context(), acme)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, r := range list.Runners {
				got += r.Name
			}
			if got != tc.want {
				t.Errorf("runners %q, want %q", got, tc.want)
			}
			var queries []string
			for _, r := range rec.seen() {
				queries = append(queries, r.Query)
			}
			if diff := cmp.Diff(tc.queries, queries); diff != "" {
				t.Error(diff)
			}
			if !list.Begun.Equal(begun) || list.ServerDate.IsZero() {
				t.Errorf("begun %s, server date %s", list.Begun, list.ServerDate)
			}
		})
	}
}

func TestListRunnersRefusesAnAnswerThatIsNotAList(t *testing.T) {
	for name, body := range map[string]string{
		"empty object":      `{}`,
		"null":              `null`,
		"null values":       `{"values":null}`,
		"an error with 200": apiError("odd", ""),
		"cut off":           `{"values":[{"uuid":"{a}"},{"uu`,
		"an HTML page":      `<html><body>sign in</body></html>`,
		"nothing":           ``,
		"runner without id": `{"values":[{"name":"a"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, body) })
			list, err := rec.client(t, nil).ListRunners(t.Context(), acme)
			if !errors.Is(err, ErrUnavailable) {
				t.Errorf("got %v and error %v, want ErrUnavailable", list, err)
			}
		})
	}
}

func TestListRunnersStopsAtTheMaximumOfPages(t *testing.T) {
	var rec *recorder
	rec = serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		answer(w, http.StatusOK, page(rec.URL+listPath+"?page=2", 1, "a"))
	})
	if _, err := rec.client(t, nil).ListRunners(t.Context(), acme); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if got := len(rec.seen()); got != maxPages {
		t.Errorf("%d requests, want %d", got, maxPages)
	}
}

func TestCredentialsAreNotSentToAnotherHost(t *testing.T) {
	foreign := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) { answer(w, http.StatusOK, page("", 0)) })
	for name, handler := range map[string]func(w http.ResponseWriter, r *http.Request, number int){
		"next link": func(w http.ResponseWriter, _ *http.Request, _ int) {
			answer(w, http.StatusOK, page(foreign.URL+listPath, 2, "a"))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request, _ int) {
			http.Redirect(w, r, foreign.URL+listPath, http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			rec := serve(t, handler)
			if _, err := rec.client(t, nil).ListRunners(t.Context(), acme); !errors.Is(err, errForeignHost) {
				t.Errorf("got %v, want errForeignHost", err)
			}
			if got := len(rec.seen()); got != 1 {
				t.Errorf("%d requests, want 1", got)
			}
		})
	}
	if seen := foreign.seen(); len(seen) != 0 {
		t.Errorf("the other host was called: %v", seen)
	}
}

func TestRedirectsAreFollowedOnlyForReads(t *testing.T) {
	rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.URL.Path == "/2.0/moved" {
			answer(w, http.StatusOK, page("", 0))
			return
		}
		http.Redirect(w, r, "/2.0/moved", http.StatusTemporaryRedirect)
	})
	c := rec.client(t, nil)
	if _, err := c.ListRunners(t.Context(), acme); err != nil {
		t.Error(err)
	}
	read := len(rec.seen())
	var answered *APIError
	if _, err := c.CreateRunner(t.Context(), acme, NewRunner{Name: "r"}); !errors.As(err, &answered) || answered.Status != 307 {
		t.Errorf("got %v, want the redirect itself", err)
	}
	if got := len(rec.seen()) - read; got != 1 {
		t.Errorf("the registration was sent %d times, want 1", got)
	}
}

func FuzzDecodeRunnerPage(f *testing.F) {
	f.Add([]byte(page("https://api.bitbucket.org/2.0/x?page=2", 2, "a", "b")))
	f.Add([]byte(`{"values":[` + runnerJSON("{a}") + `]}`))
	f.Add([]byte(`{"values":[{"uuid":"{a}","state":{"version":[],"step":{},"updated_on":""},"labels":null}]}`))
	f.Add([]byte(`{"values":null}`))
	f.Add([]byte(`{"values":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decodeRunnerPage(body)
		if err != nil {
			if got.runners != nil {
				t.Errorf("runners together with the error %v", err)
			}
			return
		}
		if got.runners == nil {
			t.Error("got neither a list nor an error")
		}
		for _, r := range got.runners {
			if r.UUID == "" {
				t.Error("runner without a uuid")
			}
		}
	})
}

func TestOneRunnerThatCannotBeDecodedHidesNoOthers(t *testing.T) {
	for name, odd := range map[string]string{
		"a step of another form":   `{"uuid":"{odd}","name":"odd","labels":["l"],"state":{"status":"ONLINE","step":"{s}"}}`,
		"a time of another form":   `{"uuid":"{odd}","name":"odd","labels":["l"],"created_on":"yesterday"}`,
		"a status of another form": `{"uuid":"{odd}","name":"odd","labels":["l"],"state":{"status":7}}`,
	} {
		page, err := decodeRunnerPage([]byte(`{"values":[{"uuid":"{a}"},` + odd + `,{"uuid":"{b}"}]}`))
		if err != nil || len(page.runners) != 3 {
			t.Errorf("%s: got %+v, %v", name, page.runners, err)
			continue
		}
		want := Runner{UUID: "{odd}", Name: "odd", Labels: []string{"l"}, State: RunnerState{Status: StatusOnline, Unreadable: true}}
		if diff := cmp.Diff(want, page.runners[1]); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", name, diff)
		}
	}
	for name, odd := range map[string]string{"no UUID": `{"name":"odd","state":7}`, "labels of another form": `{"uuid":"{odd}","labels":7}`, "not an object": `7`} {
		if _, err := decodeRunnerPage([]byte(`{"values":[` + odd + `]}`)); err == nil {
			t.Errorf("%s: the list is accepted, though nobody knows whose the runner is", name)
		}
	}
}
