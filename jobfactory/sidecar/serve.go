package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

const (
	// maxConns bounds the connections served at once: one exec, and probes.
	maxConns = 16
	// helloTimeout bounds the wait for a client's first message.
	helloTimeout = 5 * time.Second
)

// desk serves the socket to exec and to the probe.
type desk struct {
	ledger   *ledger
	log      *zap.Logger
	listener net.Listener
}

func newDesk(ctx context.Context, dir string, l *ledger, log *zap.Logger) (*desk, error) {
	path := filepath.Join(dir, socketName)
	// Left by an earlier process of this sidecar: there is one a pod.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("take the socket's place: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for exec: %w", err)
	}
	// The runner container's user is not ours.
	if err := os.Chmod(path, 0o666); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("open the socket to the runner container: %w", err)
	}
	return &desk{ledger: l, log: log, listener: listener}, nil
}

// serve answers clients until ctx ends.
func (d *desk) serve(ctx context.Context) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	defer context.AfterFunc(ctx, func() { _ = d.listener.Close() })()
	places := make(chan struct{}, maxConns)
	for {
		conn, err := d.listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept exec: %w", err)
		}
		select {
		case places <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-places }()
			d.answer(ctx, conn)
		})
	}
}

// answer serves one client to its end.
func (d *desk) answer(ctx context.Context, conn net.Conn) {
	w := newWire(conn, maxUp)
	defer w.close()
	defer context.AfterFunc(ctx, w.close)()
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout)) // fails only on a closed connection
	hello, err := w.receive()
	if err != nil {
		return // it went without a word
	}
	_ = conn.SetReadDeadline(time.Time{})
	switch hello.Type {
	case typeReady:
		now, _ := d.ledger.look()
		_ = w.send(message{Type: typeReady, Ready: now.phase != registering}) // the probe asks again
	case typeFetch:
		d.fetch(ctx, w)
	case typeDrain:
		d.drain(ctx, w)
	case typeState:
		if now, _ := d.ledger.look(); now.phase != handedOut {
			_ = w.send(message{Type: typeRefused, Reason: "no environment was handed out"})
			return
		}
		d.follow(w, &hello)
	default:
		_ = w.send(message{Type: typeRefused, Reason: "unknown first message"})
	}
}

// fetch answers exec once it is known what becomes of the Job.
func (d *desk) fetch(ctx context.Context, w *wire) {
	if !d.decided(ctx, w) {
		return
	}
	answer, err := d.ledger.handOut()
	if err != nil {
		d.log.Error("environment not handed out, exec will ask again", zap.Error(err))
		return
	}
	sent := w.send(answer)
	switch {
	case answer.Type == typeFinish:
		d.log.Info("exec told to finish", zap.String("reason", answer.Reason))
	case answer.Type == typeRefused:
		d.log.Warn("environment refused to a second client")
	case sent != nil:
		d.log.Error("environment lost on its way to exec", zap.Error(sent))
	default:
		d.log.Info("environment handed out")
		d.follow(w, nil)
	}
}

// decided waits until it is known what becomes of the Job. It reports false where
// ctx ended or the client went away: an environment sent to nobody would be lost.
func (d *desk) decided(ctx context.Context, w *wire) bool {
	gone := make(chan struct{})
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		// Exec says nothing while it waits.
		if _, err := w.reader.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			close(gone)
		}
	}()
	defer func() {
		_ = w.conn.SetReadDeadline(time.Now()) // fails only on a closed connection, where Peek has ended
		<-listening
		_ = w.conn.SetReadDeadline(time.Time{})
	}()
	for {
		now, changed := d.ledger.look()
		if now.phase != registering {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-gone:
			return false
		case <-changed:
		}
	}
}

// follow passes exec's states on, and orders to it, until the connection ends.
func (d *desk) follow(w *wire, first *message) {
	exec := d.ledger.connect()
	if first != nil {
		d.heed(exec, *first)
	}
	gone := make(chan struct{})
	var orders sync.WaitGroup
	orders.Go(func() { d.order(w, gone) })
	for {
		m, err := w.receive()
		if err != nil {
			break
		}
		d.heed(exec, m)
	}
	close(gone)
	orders.Wait()
	d.ledger.disconnect(exec)
}

// order tells exec to stop as soon as that is wanted.
func (d *desk) order(w *wire, gone <-chan struct{}) {
	for {
		now, changed := d.ledger.look()
		if now.stop {
			if err := w.send(message{Type: typeStop, Reason: now.stopReason, Terminating: now.terminating}); err != nil {
				w.close() // exec connects again and is told then
			}
			return
		}
		select {
		case <-gone:
			return
		case <-changed:
		}
	}
}

func (d *desk) heed(exec int, m message) {
	switch m.Type {
	case typeState:
		state := stateOf(m.State)
		r := report{state: state, begun: m.Begun, unrecognized: m.Unrecognized}
		if state == runnerv1.RunnerState_RUNNER_STATE_BUSY {
			r.step = m.Step
		}
		d.ledger.report(exec, r)
	case typeEnded:
		d.log.Info("runner ended", zap.Int("exitCode", m.ExitCode))
		if err := d.ledger.end(); err != nil {
			d.log.Error("a restart of the sidecar would not know of the end", zap.Error(err))
		}
	}
}
