package bitbucket

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"
)

// maxRetryAfter is the longest wait that a call sits out itself; a longer one
// is for its caller to plan with.
const maxRetryAfter = 60 * time.Second

// retryAfter reads the Retry-After header, seconds or an HTTP date, which is
// taken against the answer's own Date; 0 when it is absent or unreadable.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, 24*3600))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date := serverDate(header); !date.IsZero() {
		now = date
	}
	return max(0, at.Sub(now))
}

func serverDate(header http.Header) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

// checkRetry is the retry policy: a repeatable call after a network error, a
// 5xx or a 429; a registration only after a 429, or when the try cannot have
// reached Bitbucket.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	ex := exchangeOf(ctx)
	if ctx.Err() != nil || ex == nil {
		return false, nil //nolint:nilerr // an error here would hide the call's own
	}
	if err != nil {
		return !final(err) && (ex.repeatable || !ex.sent.Load()), nil
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
	case resp.StatusCode >= http.StatusInternalServerError && resp.StatusCode != http.StatusNotImplemented:
		if !ex.repeatable {
			return false, nil
		}
	default:
		return false, nil
	}
	return worthWaiting(ctx, retryAfter(resp.Header, time.Now())), nil
}

// worthWaiting is false for a wait that the caller's deadline would cut off.
func worthWaiting(ctx context.Context, wait time.Duration) bool {
	if wait > maxRetryAfter {
		return false
	}
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

// final reports errors that would come again.
func final(err error) bool {
	for _, target := range []error{
		ErrBudgetExhausted, ErrUnauthorized, ErrRateLimited, errForeignHost, errTooLarge, errRedirects,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// backoff waits as the server asks, and a jittered exponential time where it
// does not.
func (c *Client) backoff(low, high time.Duration, attempt int, resp *http.Response) time.Duration {
	wait := time.Duration(0)
	status := 0
	if resp != nil {
		wait, status = retryAfter(resp.Header, time.Now()), resp.StatusCode
	}
	if wait == 0 {
		limit := min(high, low<<min(attempt+1, 16))
		wait = retryablehttp.LinearJitterBackoff(low, max(low, limit), 0, nil)
	}
	c.cfg.Logger.Debug("trying a call to Bitbucket again",
		zap.Int("attempt", attempt+1), zap.Int("status", status), zap.Duration("wait", wait))
	return wait
}
