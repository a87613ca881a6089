package installation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// lookEvery is how often Until looks.
const lookEvery = 500 * time.Millisecond

// Until waits within a bound for a condition. It goes on after errors; the last one is part of its own.
func Until(ctx context.Context, within time.Duration, what string, done func() (bool, error)) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, lookEvery, within, true, func(context.Context) (ok bool, _ error) {
		ok, last = done()
		return ok && last == nil, nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("waited for %s: %w", what, err), last)
	}
	return nil
}
