package socket

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// fileName is the socket's name in the shared folder.
const fileName = "sidecar.sock"

// maxPath is what fits into sockaddr_un.sun_path, in bytes, see unix(7).
const maxPath = 107

// Bounds of a line, in bytes. The longest message to `sidecar exec` is an
// environment. Messages to the sidecar are short.
const (
	maxToExec    = 64 << 10
	maxToSidecar = 4 << 10
)

// Timeout bounds a write to a peer that does not read, and the wait for an answer
// that the sidecar can give at once.
const Timeout = 5 * time.Second

var errMessage = errors.New("read from socket: not a message of the sidecar's protocol")

// ValidateDir reports whether a shared folder's path is absolute and short enough
// for the socket's path to fit.
func ValidateDir(dir string) error {
	switch {
	case !filepath.IsAbs(dir):
		return fmt.Errorf("--dir: %q, want an absolute path", dir)
	case len(filepath.Join(dir, fileName)) > maxPath:
		return fmt.Errorf("--dir: %q, want a path of at most %d bytes, because the path of a socket in it is limited", dir, maxPath-len(fileName)-1)
	}
	return nil
}

// Listen creates the socket in the shared folder and listens on it. It replaces
// the socket of an earlier process.
func Listen(ctx context.Context, dir string) (net.Listener, error) {
	path := filepath.Join(dir, fileName)
	// A pod has one sidecar, so a socket that exists is left over.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for the runner container: %w", err)
	}
	// The runner container runs as another user.
	if err := os.Chmod(path, 0o666); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("open the socket to the runner container: %w", err)
	}
	return listener, nil
}

// Conn is one connection over the socket. Send and Receive may run at the same
// time, but each only once.
type Conn struct {
	conn   net.Conn
	reader *bufio.Reader
}

// NewConn returns the sidecar's end of a connection that a listener accepted.
func NewConn(conn net.Conn) *Conn {
	return &Conn{conn: conn, reader: bufio.NewReaderSize(conn, maxToSidecar)}
}

// Dial connects to the sidecar that serves a folder.
func Dial(ctx context.Context, dir string) (*Conn, error) {
	dialer := net.Dialer{Timeout: Timeout}
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(dir, fileName))
	if err != nil {
		return nil, fmt.Errorf("connect to the sidecar: %w", err)
	}
	return &Conn{conn: conn, reader: bufio.NewReaderSize(conn, maxToExec)}, nil
}

// Close ends the connection, and a Receive that waits.
func (c *Conn) Close() { _ = c.conn.Close() }

// SetReadDeadline bounds the reads from now on; the zero time removes the bound.
func (c *Conn) SetReadDeadline(t time.Time) {
	_ = c.conn.SetReadDeadline(t) // fails only on a closed connection, where reads fail too
}

// Send writes one message.
func (c *Conn) Send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message %q: %w", m.Type, err)
	}
	line = append(line, '\n')
	defer clear(line) // it may hold the secret
	if err := c.conn.SetWriteDeadline(time.Now().Add(Timeout)); err != nil {
		return fmt.Errorf("send message %q: %w", m.Type, err)
	}
	if _, err := c.conn.Write(line); err != nil {
		return fmt.Errorf("send message %q: %w", m.Type, err)
	}
	return nil
}

// Receive reads one message. Its errors never quote what it read, because that
// may be the secret.
func (c *Conn) Receive() (Message, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return Message{}, fmt.Errorf("read from socket: %w", err)
	}
	defer clear(line)
	var m Message
	if err := json.Unmarshal(line, &m); err != nil {
		return Message{}, errMessage
	}
	return m, nil
}

// Ask sends one message and waits for the answer until ctx ends. The caller closes
// the connection.
func (c *Conn) Ask(ctx context.Context, question Message) (Message, error) {
	defer context.AfterFunc(ctx, c.Close)()
	if err := c.Send(question); err != nil {
		return Message{}, err
	}
	return c.Receive()
}

// WaitForPeer blocks until the peer has sent something, which it does not read, or
// until the read deadline. It returns an error only if the peer has gone.
func (c *Conn) WaitForPeer() error {
	if _, err := c.reader.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("wait for the peer: %w", err)
	}
	return nil
}
