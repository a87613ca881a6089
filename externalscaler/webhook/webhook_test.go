package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bitbucket-runner-scaler/bitbucket"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/queue"
)

var (
	pushed     = `{` + repository + `}`
	pushedHint = queue.Hint{Credentials: "team", Workspace: workspaceUUID, Repository: repositoryUUID}
)

func team(secrets ...bitbucket.Secret) credentials.Webhook {
	return set("team", credentials.Serves{}, secrets...)
}

func TestADeliveryBecomesHints(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret)).run()
	b.want(202, delivery(statusCreated, statusOf("https://bitbucket.org/acme/app/pipelines/results/812"), secret))
	b.want(202, delivery(push, pushed, secret))
	b.want(202, delivery(spanCreated, spansOf(spanOf("bbc.step", pipelineUUID)), secret))
	build, span := pushedHint, pushedHint
	build.Build, span.Pipeline = 812, pipelineUUID
	if diff := cmp.Diff([]queue.Hint{build, pushedHint, span}, b.next(3)); diff != "" {
		t.Error(diff)
	}
	if got := b.Last()["team"]; !got.Equal(b.clock.Now()) {
		t.Errorf("last delivery at %v, want %v", got, b.clock.Now())
	}
}

func TestHowDeliveriesAreAnswered(t *testing.T) {
	t.Parallel()
	signed := header("X-Hub-Signature", "sha256="+sign(pushed, secret))
	large := strings.Repeat(" ", MaxBody+1)
	for of, c := range map[string]struct {
		request *http.Request
		status  int
		outcome string
	}{
		"good":                         {delivery(push, pushed, secret), 202, "repo:push accepted"},
		"event that is not known":      {delivery("repo:fork", pushed, secret), 200, "other unknown_event"},
		"no event":                     {delivery("", pushed, secret), 200, "other unknown_event"},
		"status of another system":     {delivery(statusCreated, statusOf("https://ci/1"), secret), 200, "repo:commit_status_created irrelevant"},
		"no signature":                 {delivery(push, pushed, ""), 401, "repo:push unsigned"},
		"signature of another secret":  {delivery(push, pushed, "another-secret-of-it"), 401, "repo:push forged"},
		"signature of another body":    {delivery(push, pushed+" ", "", signed), 401, "repo:push forged"},
		"signature in capital letters": {delivery(push, pushed, "", header("X-Hub-Signature", "sha256="+strings.ToUpper(sign(pushed, secret)))), 202, "repo:push accepted"},
		"signature of another kind":    {delivery(push, pushed, "", header("X-Hub-Signature", "sha1="+sign(pushed, secret))), 401, "repo:push unsigned"},
		"half a signature":             {delivery(push, pushed, "", header("X-Hub-Signature", "sha256="+sign(pushed, secret)[:32])), 401, "repo:push unsigned"},
		"signature that is not hex":    {delivery(push, pushed, "", header("X-Hub-Signature", "sha256="+strings.Repeat("x", 64))), 401, "repo:push unsigned"},
		"another method":               {delivery(push, pushed, secret, func(r *http.Request) { r.Method = http.MethodGet }), 405, "repo:push wrong_method"},
		"another type":                 {delivery(push, pushed, secret, header("Content-Type", "text/plain")), 415, "repo:push wrong_content"},
		"compressed":                   {delivery(push, pushed, secret, header("Content-Encoding", "gzip")), 415, "repo:push wrong_content"},
		"no JSON":                      {delivery(push, "{", secret), 400, "repo:push malformed"},
		"largest":                      {delivery(push, pushed+large[:MaxBody-len(pushed)], secret), 202, "repo:push accepted"},
		"too large":                    {delivery(push, large, secret), 413, "repo:push too_large"},
		"too large without a length":   {delivery(push, large, secret, func(r *http.Request) { r.ContentLength = -1 }), 413, "repo:push too_large"},
		"no body":                      {delivery(push, "", secret), 400, "repo:push malformed"},
	} {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, team(secret))
			b.want(c.status, c.request)
			if b.outcomes[c.outcome] != 1 || len(b.outcomes) != 1 {
				t.Errorf("got %v, want %s", b.outcomes, c.outcome)
			}
			if got := b.pending() == 1; got != (c.status == 202) {
				t.Errorf("the delivery is taken: %v", got)
			}
			if _, name, _ := strings.Cut(c.outcome, " "); !slices.Contains(Outcomes(), name) {
				t.Errorf("%s is missing in Outcomes", name)
			}
		})
	}
}

func TestTheSignatureDecidesForWhichSets(t *testing.T) {
	t.Parallel()
	two := []credentials.Webhook{
		set("a", credentials.Serves{}, secret),
		set("b", credentials.Serves{Workspaces: []string{"acme"}}, "secret-of-b-and-c", "secret-before-it-of-b"),
		set("c", credentials.Serves{Repositories: []string{"acme/web"}}, "secret-of-b-and-c"),
		set("d", credentials.Serves{Repositories: []string{repositoryUUID}}, "secret-of-b-and-c"),
	}
	b := newBench(t, two...).run()
	for _, c := range []struct {
		secret string
		status int
		want   []string
	}{
		{secret, 202, []string{"a"}},
		{"secret-of-b-and-c", 202, []string{"b", "d"}},
		{"secret-before-it-of-b", 202, []string{"b"}},
		{"secret-of-nobody-here", 401, nil},
	} {
		b.want(c.status, delivery(push, pushed, c.secret))
		var got []string
		for _, hint := range b.next(len(c.want)) {
			got = append(got, hint.Credentials)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: hints for %v, want %v", c.secret, got, c.want)
		}
	}
	// What no set serves is taken and leads to nothing.
	b.want(200, delivery(push, strings.NewReplacer("acme/app", "other/x", "acme", "other", repositoryUUID, pipelineUUID).Replace(pushed), "secret-before-it-of-b"))
	if b.outcomes["repo:push outside"] != 1 || len(b.hinted) != 0 {
		t.Errorf("got %v and %d hints", b.outcomes, len(b.hinted))
	}
}

func TestASecretIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	const next = "next-secret-of-the-webhook"
	b := newBench(t, team(secret))
	b.want(202, delivery(push, pushed, secret))
	b.want(401, delivery(push, pushed, next))
	b.change(func() { b.sets = []credentials.Webhook{team(next, secret)} })
	b.clock.SetTime(b.clock.Now().Add(keysAge))
	b.want(202, delivery(push, pushed, secret))
	b.want(202, delivery(push, pushed, next))
	b.change(func() { b.sets = []credentials.Webhook{team(next)} })
	b.clock.SetTime(b.clock.Now().Add(keysAge))
	b.want(401, delivery(push, pushed, secret))
	b.want(202, delivery(push, pushed, next))
}

func TestFaultsOfSecretsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	logged := func(text string, want int) {
		t.Helper()
		if got := b.logs.FilterMessageSnippet(text).Len(); got != want {
			t.Errorf("%d lines about %q, want %d", got, text, want)
		}
	}
	for range 3 {
		b.Last()
		b.clock.SetTime(b.clock.Now().Add(keysAge))
	}
	logged("no credentials set has the key webhookSecret", 1)
	b.change(func() {
		b.sets, b.fault = []credentials.Webhook{team(secret)}, errors.New("webhookSecret: 3 characters")
	})
	for range 3 {
		b.Last()
		b.clock.SetTime(b.clock.Now().Add(keysAge))
	}
	logged("secret cannot be used", 1)
	b.want(202, delivery(push, pushed, secret)) // the other sets' are used all the same
}

func TestOnlyTheLeaderTakesDeliveries(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret))
	b.leads = false
	b.want(503, delivery(push, pushed, secret))
	if b.pending() != 0 || b.outcomes["repo:push standby"] != 1 {
		t.Errorf("a standby took the delivery: %v", b.outcomes)
	}
	b.leads = true
	b.want(202, delivery(push, pushed, secret))
}

func TestARepeatedDeliveryDoesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret), set("other", credentials.Serves{}, "secret-of-another-set"))
	request := func(id, secret string) *http.Request {
		return delivery(push, pushed, secret, header("X-Request-UUID", id))
	}
	b.want(401, request("1", "forged-with-another-secret")) // it must not use up the identifier
	b.want(202, request("1", "secret-of-another-set"))      // nor must another set
	b.want(202, request("1", secret))
	b.want(200, request("1", secret))
	b.want(202, request("2", secret))
	b.want(202, request("", secret))
	b.want(202, request("", secret))
	if got := b.pending(); got != 5 || b.outcomes["repo:push repeated"] != 1 {
		t.Errorf("%d deliveries wait, want 5: %v", got, b.outcomes)
	}
	b.clock.SetTime(b.clock.Now().Add(repeatsAge))
	b.want(202, request("1", secret))
	for i := range 2 * repeatsKept {
		b.repeats.add(fmt.Sprint(i))
	}
	if got := b.repeats.known.Len(); got != repeatsKept {
		t.Errorf("%d requests are remembered, want %d", got, repeatsKept)
	}
}

func TestWhatDoesNotFitIsSentAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret))
	request := func(id int) *http.Request {
		return delivery(push, pushed, secret, header("X-Request-UUID", fmt.Sprint(id)))
	}
	for i := range waiting {
		b.want(202, request(i))
	}
	b.want(503, request(waiting))
	b.want(200, request(0)) // a repeat needs no room
	b.run()
	b.next(waiting)
	b.want(202, request(waiting)) // a delivery that was refused is no repeat
	b.next(1)
}

func TestGoodDeliveriesOfOneSourceAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret)).run()
	irrelevant := func() *http.Request { return delivery("repo:fork", pushed, secret) }
	for range goodAtOnce {
		b.want(200, irrelevant())
	}
	b.want(503, irrelevant()) // not 429, which Bitbucket is not known to repeat
	b.want(200, delivery("repo:fork", pushed, secret, func(r *http.Request) { r.RemoteAddr = "192.0.2.2:1" }))
	b.clock.SetTime(b.clock.Now().Add(time.Second / goodPerSecond))
	b.want(200, irrelevant())
}

func TestWrongSignaturesCostTheirSourceOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret))
	from := func(address, secret string) *http.Request {
		return delivery(push, pushed, secret, func(r *http.Request) { r.RemoteAddr = address })
	}
	for i := range failuresAtOnce {
		b.want(401, from("[2001:db8::1]:1", []string{"", "wrong-secret-of-it"}[i%2]))
	}
	b.want(429, from("[2001:db8::1]:2", "wrong-secret-of-it"))
	b.want(429, from("[2001:db8::ffff]:2", "")) // the same network
	b.want(202, from("[2001:db8::1]:3", secret))
	b.want(401, from("[2001:db8:0:1::1]:1", ""))
	b.want(401, from("192.0.2.1:1", ""))
	b.clock.SetTime(b.clock.Now().Add(time.Second / failuresPerSecond))
	b.want(401, from("[2001:db8::1]:2", ""))
	b.want(429, from("[2001:db8::1]:2", ""))
	for i := range 2 * sourcesKept {
		b.sources.of(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256))
	}
	if got := b.sources.known.Len(); got != sourcesKept {
		t.Errorf("%d sources are known, want %d", got, sourcesKept)
	}
}

func TestRefusedDeliveriesAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := newBench(t, team(secret))
	for range 100 {
		b.deliver(delivery(push, pushed, "wrong-secret-of-it"))
	}
	b.clock.SetTime(b.clock.Now().Add(logInterval))
	b.deliver(delivery(push, pushed, ""))
	lines := b.logs.FilterMessageSnippet("deliveries are refused").All()
	if len(lines) != 2 || lines[1].ContextMap()["deliveries"] != int64(100) {
		t.Errorf("got %v, want two lines, the second about 100 deliveries", lines)
	}
	for _, line := range lines {
		if text := fmt.Sprint(line); strings.Contains(text, secret) || strings.Contains(text, "wrong-secret") {
			t.Errorf("a secret is logged: %s", text)
		}
	}
}
