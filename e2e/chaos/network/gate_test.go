package network

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each line with itself until the test ends.
func echo(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func open(t *testing.T, g *Gate) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", g.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends a line and reads what comes back, for as long as patience.
func say(conn net.Conn, patience time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func TestGateRefusesHangsAndPasses(t *testing.T) {
	g, err := NewGate(t.Context(), Fixed(echo(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	standing := open(t, g)
	if got, err := say(standing, time.Minute); got != "hello\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	g.Set(Refuse)
	if got, err := say(standing, time.Minute); err == nil {
		t.Errorf("a connection that stood answered %q while all are refused", got)
	}
	if got, err := say(open(t, g), time.Minute); err == nil {
		t.Errorf("a new connection answered %q while all are refused", got)
	}
	g.Set(Hang)
	hanging := open(t, g)
	if got, err := say(hanging, 50*time.Millisecond); err == nil {
		t.Errorf("a hanging connection answered %q", got)
	}
	g.Set(Pass)
	if got, err := say(open(t, g), time.Minute); got != "hello\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
