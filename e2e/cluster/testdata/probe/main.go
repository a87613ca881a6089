// Command probe reaches the API server from inside a pod by its Service's name, says how long that took, and ends.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	start := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", "kubernetes.default.svc.cluster.local:443")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = conn.Close()
	fmt.Println(os.Getenv("GREETING"), "reached", conn.RemoteAddr(), "in", time.Since(start).Round(time.Millisecond))
}
