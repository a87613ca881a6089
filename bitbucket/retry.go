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

// maxRetryAfter is the longest Retry-After for which a call waits itself. It returns
// longer ones to its caller.
const maxRetryAfter = 60 * time.Second

// retryAfter returns the Retry-After header as a duration, at most an hour: the budget is
// that of an hour. The header contains seconds or an HTTP date, which is compared with the
// answer's own Date. retryAfter returns 0 if the header is absent or unreadable.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(0, min(seconds, int(longestPause/time.Second)))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date := serverDate(header); !date.IsZero() {
		now = date
	}
	return max(0, min(at.Sub(now), longestPause))
}

func serverDate(header http.Header) time.Time {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

type withoutRetriesKey struct{}

// WithoutRetries returns a context whose calls are tried once. A caller that polls tries
// again by itself, and during an outage each retry costs a call of the hourly budget.
func WithoutRetries(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutRetriesKey{}, true)
}

// checkRetry is the retry policy. A repeatable call is retried after a network error, a
// 5xx or a 429. A registration is retried only after a 429, or if the try cannot have
// reached Bitbucket.
func checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	ex := exchangeOf(ctx)
	if ctx.Err() != nil || ex == nil || ctx.Value(withoutRetriesKey{}) != nil {
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

// worthWaiting returns false if the wait would exceed the caller's deadline.
func worthWaiting(ctx context.Context, wait time.Duration) bool {
	if wait > maxRetryAfter {
		return false
	}
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > wait
}

// final reports whether an error would occur again.
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

// backoff returns the wait that the server asks for, or otherwise a jittered exponential
// wait.
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
	wait = max(wait, c.cfg.Budget.paused())
	c.cfg.Logger.Debug("trying a call to Bitbucket again",
		zap.Int("attempt", attempt+1), zap.Int("status", status), zap.Duration("wait", wait))
	return wait
}
