package webhook

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/queue"
)

// newServed serves a handler on loopback, with real time.
func newServed(t *testing.T, hints Hints) (h *Handler, url string) {
	t.Helper()
	b := newBench(t, team(secret))
	h = New(Config{Secrets: b, Hints: hints, Leads: func() bool { return true }, Logger: b.config.Logger})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return h, server.URL
}

type counter struct{ n atomic.Int64 }

// Hint implements Hints.
func (c *counter) Hint(queue.Hint) { c.n.Add(1) }

// send sends a delivery over the network.
func send(t *testing.T, client *http.Client, url string, r *http.Request) int {
	req, err := http.NewRequestWithContext(context.Background(), r.Method, url+Path, r.Body)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header, req.ContentLength = r.Header, r.ContentLength
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestAFloodOfForgedDeliveriesHoldsNothingUp sends more than a thousand deliveries per second
// from one address, a tenth of them good.
func TestAFloodOfForgedDeliveriesHoldsNothingUp(t *testing.T) {
	var hints counter
	_, url := newServed(t, &hints)
	const senders, each = 32, 250
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	large := strings.Repeat(" ", 16<<10)
	before := memory()
	goroutines := runtime.NumGoroutine()
	var peakHeap, peakGoroutines atomic.Uint64
	var refused atomic.Int64
	var flood sync.WaitGroup
	begun := time.Now()
	for sender := range senders {
		flood.Go(func() {
			for i := range each {
				if i%10 == 0 {
					id := header("X-Request-UUID", fmt.Sprint(sender, "-", i))
					if got := send(t, client, url, delivery(push, pushed, secret, id)); got != 202 {
						t.Errorf("a good delivery got %d", got)
					}
					peakHeap.Store(max(peakHeap.Load(), memory()))
					peakGoroutines.Store(max(peakGoroutines.Load(), uint64(runtime.NumGoroutine())))
					continue
				}
				switch got := send(t, client, url, delivery(push, pushed+large, "wrong-secret-of-it")); got {
				case 429:
					refused.Add(1)
				case 401:
				default:
					t.Errorf("a forged delivery got %d", got)
				}
			}
		})
	}
	flood.Wait()
	took := time.Since(begun)
	t.Logf("%d deliveries in %v; heap %d KiB more, %d goroutines", senders*each, took, (int64(peakHeap.Load())-int64(before))>>10, peakGoroutines.Load())
	if got := peakHeap.Load(); got > before+64<<20 {
		t.Errorf("the heap grew from %d to %d", before, got)
	}
	if got := peakGoroutines.Load(); got > uint64(goroutines+10*senders) {
		t.Errorf("%d goroutines, before %d", got, goroutines)
	}
	if refused.Load() == 0 {
		t.Error("no forged delivery got 429")
	}
	for deadline := time.Now().Add(20 * time.Second); hints.n.Load() < senders*each/10 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	if got := hints.n.Load(); got != senders*each/10 {
		t.Errorf("%d hints, want %d", got, senders*each/10)
	}
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestABodyThatDoesNotArriveHoldsNothingUp checks that slow senders of one address leave room
// for others, and get their answer when their time is over.
func TestABodyThatDoesNotArriveHoldsNothingUp(t *testing.T) {
	t.Parallel()
	h, url := newServed(t, &counter{})
	h.slotTimeout, h.bodyTimeout = 200*time.Millisecond, 2*time.Second
	answers := make(chan string, bodies)
	for range bodies {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Hub-Signature: sha256=%064d\r\nContent-Length: 100\r\n\r\n{", Path, 0)
		go func() {
			answer, _ := io.ReadAll(io.LimitReader(conn, 12))
			answers <- string(answer)
		}()
	}
	count := map[string]int{}
	for len(h.sources.of("127.0.0.1:1").bodies) < sourceBodies {
		<-time.After(time.Millisecond)
	}
	elsewhere := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	if got := send(t, elsewhere, url, delivery(push, pushed, secret)); got != 202 {
		t.Errorf("a good delivery got %d", got)
	}
	for range bodies {
		count[<-answers]++
	}
	if count["HTTP/1.1 503"] != bodies-sourceBodies || count["HTTP/1.1 408"] != sourceBodies { // each has got an answer
		t.Errorf("got %v, want that half of them found no room, and the others ran out of time", count)
	}
}

// TestTheBodiesOfAllSourcesAreBounded checks that a delivery waits for its turn and then gets
// an answer after which Bitbucket sends it again.
func TestTheBodiesOfAllSourcesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, credentials.Webhook{Name: "team", Secrets: team(secret).Secrets})
	if !b.slots.TryAcquire(bodies) {
		t.Fatal("slots are in use")
	}
	r := delivery(push, pushed, secret)
	ctx, cancel := context.WithCancel(r.Context())
	cancel() // as after slotTimeout
	b.want(503, r.WithContext(ctx))
	b.slots.Release(bodies)
	b.want(202, delivery(push, pushed, secret))
}
