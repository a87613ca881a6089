package sidecar

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// talk keeps the sidecar told of the runner's state, and takes its orders, until
// the runner's end is told or ctx ends. Where the connection breaks it connects
// again: sidecars restart, runners go on.
func (e *executor) talk(ctx context.Context, w *wire) {
	wait := backoff{base: 50 * time.Millisecond, maximum: 2 * time.Second}
	for {
		began := time.Now()
		if e.converse(ctx, w) || ctx.Err() != nil {
			return
		}
		if time.Since(began) > wait.maximum {
			wait.reset()
			e.log.Warn("connection to the sidecar lost, connecting again")
		}
		for {
			if !pause(ctx, wait.next()) {
				return
			}
			var err error
			if w, err = dialWire(ctx, e.config.Dir); err == nil {
				break
			}
			e.log.Debug("sidecar not reached", zap.Error(err))
		}
		if err := w.send(stateMessage(e.account.reports.reopen())); err != nil {
			e.log.Debug("sidecar not told", zap.Error(err))
		}
	}
}

// converse serves one connection to its end, and reports whether the runner's
// end was told over it.
func (e *executor) converse(ctx context.Context, w *wire) (done bool) {
	defer w.close()
	defer context.AfterFunc(ctx, w.close)()
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		e.listen(w)
	}()
	defer func() { w.close(); <-broken }()
	for {
		select {
		case <-broken:
			return false
		case <-e.account.reports.changed:
			if e.tellPending(w) != nil {
				return false
			}
		case code := <-e.ended:
			if e.tellPending(w) == nil && w.send(message{Type: typeEnded, ExitCode: code}) == nil {
				return true
			}
			e.ended <- code // for the next connection
			return false
		}
	}
}

func (e *executor) tellPending(w *wire) error {
	for _, r := range e.account.reports.take() {
		if err := w.send(stateMessage(r)); err != nil {
			return err
		}
	}
	return nil
}

// listen takes orders until the connection ends.
func (e *executor) listen(w *wire) {
	for {
		m, err := w.receive()
		if err != nil {
			return
		}
		switch m.Type {
		case typeStop:
			select {
			case e.stop <- m:
			default: // told before
			}
		case typeRefused:
			e.log.Warn("the sidecar does not take the runner's state", zap.String("reason", m.Reason))
			return
		}
	}
}
