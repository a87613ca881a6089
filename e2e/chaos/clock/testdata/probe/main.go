// Command probe prints what its clock shows, and waits with it in two ways.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if err := probe(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func probe() error {
	began := time.Now()
	time.Sleep(2 * time.Second)
	slept := time.Since(began)
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	if err := near.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err := near.Read(make([]byte, 1))
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"Wall": began, "Slept": slept, "Expired": errors.Is(err, os.ErrDeadlineExceeded),
	})
}
