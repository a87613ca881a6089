package webhook

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"k8s.io/utils/clock"
)

// The outcomes of deliveries, for metrics.
const (
	// Accepted means that the delivery became hints.
	Accepted = "accepted"
	// Repeated means that it was accepted before.
	Repeated = "repeated"
	// Irrelevant means that it says nothing about pipelines, Unknown that its event is not
	// known, and Outside that it is about a repository that the credentials set does not
	// serve.
	Irrelevant = "irrelevant"
	Unknown    = "unknown_event"
	Outside    = "outside"
	// Unsigned and Forged mean that the signature is missing or wrong, and Limited that
	// the source has sent too many of such deliveries.
	Unsigned = "unsigned"
	Forged   = "forged"
	Limited  = "limited"
	// WrongMethod, WrongContent, TooLarge, Interrupted and Malformed mean that it is no
	// delivery of Bitbucket, or that it was cut off.
	WrongMethod  = "wrong_method"
	WrongContent = "wrong_content"
	TooLarge     = "too_large"
	Interrupted  = "interrupted"
	Malformed    = "malformed"
	// Overloaded and Standby mean that Bitbucket should send it again.
	Overloaded = "overloaded"
	Standby    = "standby"
)

type answer struct {
	status int
	text   string
}

// answers are those to each outcome. Bitbucket is not known to send a delivery again after
// a 4xx, so what may be good later gets a 5xx.
var answers = map[string]answer{
	Accepted:     {http.StatusAccepted, ""},
	Repeated:     {http.StatusOK, ""},
	Irrelevant:   {http.StatusOK, ""},
	Unknown:      {http.StatusOK, ""},
	Outside:      {http.StatusOK, ""},
	Unsigned:     {http.StatusUnauthorized, "X-Hub-Signature: missing or not sha256=<hex>: the webhook needs a secret"},
	Forged:       {http.StatusUnauthorized, "X-Hub-Signature: no credentials set has this secret"},
	Limited:      {http.StatusTooManyRequests, "too many deliveries with a missing or wrong signature"},
	WrongMethod:  {http.StatusMethodNotAllowed, "want POST"},
	WrongContent: {http.StatusUnsupportedMediaType, "Content-Type: want application/json without Content-Encoding"},
	TooLarge:     {http.StatusRequestEntityTooLarge, "want at most 262144 bytes"},
	Interrupted:  {http.StatusRequestTimeout, "the body did not arrive in time"},
	Malformed:    {http.StatusBadRequest, "the body is not JSON"},
	Overloaded:   {http.StatusServiceUnavailable, "too many deliveries, try again later"},
	Standby:      {http.StatusServiceUnavailable, "standby: not the leader"},
}

// Outcomes returns every outcome of a delivery.
func Outcomes() []string {
	all := make([]string, 0, len(answers))
	for outcome := range answers {
		all = append(all, outcome)
	}
	slices.Sort(all)
	return all
}

// logInterval is the time between two lines about refused deliveries.
const logInterval = time.Minute

// refusals logs refused deliveries, at most one line per interval.
type refusals struct {
	clock clock.PassiveClock
	log   *zap.Logger

	mu     sync.Mutex
	logged time.Time
	since  int
}

func (r *refusals) add(address, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since++
	if now := r.clock.Now(); r.logged.IsZero() || now.Sub(r.logged) >= logInterval {
		r.log.Warn("webhook deliveries are refused, because their signature is missing or of no credentials set's webhookSecret",
			zap.String("from", address), zap.String("outcome", outcome), zap.Int("deliveries", r.since))
		r.logged, r.since = now, 0
	}
}
