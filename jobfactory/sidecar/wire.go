package sidecar

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Types of messages; the package comment says who sends which.
const (
	typeReady       = "ready"
	typeFetch       = "fetch"
	typeEnvironment = "environment"
	typeFinish      = "finish"
	typeRefused     = "refused"
	typeState       = "state"
	typeEnded       = "ended"
	typeStop        = "stop"
	typeDrain       = "drain"
	typeDrained     = "drained"
)

// message is one line of the socket's protocol.
type message struct {
	Type        string            `json:"type"`
	Ready       bool              `json:"ready,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	// Terminating goes with a stop: the preStop hook waits for the runner's end.
	Terminating bool   `json:"terminating,omitempty"`
	State       string `json:"state,omitempty"`
	Step        string `json:"step,omitempty"`
	ExitCode    int    `json:"exit_code,omitempty"`
	// Begun and Unrecognized go with a state, as in runner/v1's AttachRequest.
	Begun        uint32 `json:"steps_begun,omitempty"`
	Unrecognized bool   `json:"unrecognized_output,omitempty"`
}

// Bounds of a line: the longest down to exec is an environment, those up to the
// sidecar are short.
const (
	maxDown = 64 << 10
	maxUp   = 4 << 10
)

// writeTimeout bounds a write to a peer that does not read.
const writeTimeout = 5 * time.Second

var errMessage = errors.New("not a message of the sidecar's protocol")

// wire is one connection over the socket.
type wire struct {
	conn   net.Conn
	reader *bufio.Reader
}

// newWire reads lines of up to limit bytes from conn.
func newWire(conn net.Conn, limit int) *wire {
	return &wire{conn: conn, reader: bufio.NewReaderSize(conn, limit)}
}

// dialWire connects to the sidecar that serves a folder.
func dialWire(ctx context.Context, dir string) (*wire, error) {
	dialer := net.Dialer{Timeout: writeTimeout}
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(dir, socketName))
	if err != nil {
		return nil, fmt.Errorf("connect to the sidecar: %w", err)
	}
	return newWire(conn, maxDown), nil
}

func (w *wire) close() { _ = w.conn.Close() }

func (w *wire) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %q: %w", m.Type, err)
	}
	line = append(line, '\n')
	defer clear(line) // it may hold the secret
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("send message %q: %w", m.Type, err)
	}
	if _, err := w.conn.Write(line); err != nil {
		return fmt.Errorf("send message %q: %w", m.Type, err)
	}
	return nil
}

// receive reads one message. Its errors never quote what was read: that may be
// the secret.
func (w *wire) receive() (message, error) {
	line, err := w.reader.ReadSlice('\n')
	if err != nil {
		return message{}, fmt.Errorf("read from socket: %w", err)
	}
	defer clear(line)
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, errMessage
	}
	return m, nil
}

var stateNames = map[runnerv1.RunnerState]string{
	runnerv1.RunnerState_RUNNER_STATE_STARTING: "starting",
	runnerv1.RunnerState_RUNNER_STATE_IDLE:     "idle",
	runnerv1.RunnerState_RUNNER_STATE_BUSY:     "busy",
	runnerv1.RunnerState_RUNNER_STATE_STOPPING: "stopping",
	runnerv1.RunnerState_RUNNER_STATE_UNKNOWN:  "unknown",
}

// stateOf is the state of a name; one that a later exec may know is UNKNOWN.
func stateOf(name string) runnerv1.RunnerState {
	for state, known := range stateNames {
		if known == name {
			return state
		}
	}
	return runnerv1.RunnerState_RUNNER_STATE_UNKNOWN
}

func stateMessage(r report) message {
	return message{Type: typeState, State: stateNames[r.state], Step: r.step, Begun: r.begun, Unrecognized: r.unrecognized}
}

// Ready asks the sidecar that serves dir whether the runner is registered, or
// the Job was told to finish; nil means so.
func Ready(ctx context.Context, dir string) error {
	if err := validateDir(dir); err != nil {
		return err
	}
	w, err := dialWire(ctx, dir)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.send(message{Type: typeReady}); err != nil {
		return err
	}
	if err := w.conn.SetReadDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("wait for the sidecar's answer: %w", err)
	}
	answer, err := w.receive()
	if err != nil {
		return err
	}
	if !answer.Ready {
		return errors.New("the runner is not registered yet")
	}
	return nil
}
