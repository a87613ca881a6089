package round

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator"
	"bitbucket-runner-scaler/e2e/chaos/plan"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

// hookSecret signs the webhooks' deliveries.
const hookSecret = "chaos-webhook-secret-of-the-round" //nolint:gosec // of the emulator

// hookURL is the way of deliveries to the leader.
func (r *Round) hookURL() string { return "http://" + r.hooks.Address() + webhook.Path }

// addWebhook has Bitbucket deliver all events, if the plan says so.
func (r *Round) addWebhook(ctx context.Context) error {
	if !r.plan.Webhooks {
		return nil
	}
	return r.control.AddWebhook(ctx, emulator.WebhookRequest{URL: r.hookURL(), Secret: hookSecret})
}

// deliveries returns the emulator's rules for a fault of deliveries.
func deliveries(f plan.Fault) []emulator.DeliveryFault {
	rule := emulator.DeliveryFault{Probability: f.Probability}
	switch f.Kind {
	case plan.HooksLost:
		rule.Lost = true
	case plan.HooksDoubled:
		rule.Doubled = true
	case plan.HooksLate:
		rule.Late = f.Lag.String()
	default:
		return nil
	}
	return []emulator.DeliveryFault{rule}
}

// delivery is a delivery that Bitbucket did not make.
type delivery struct {
	event, body string
	signed      bool
}

// post delivers it. It returns the status of the answer, 0 for none.
func (d delivery) post(ctx context.Context, client *http.Client, url string) int {
	secret := hookSecret
	if !d.signed {
		secret = "another-secret-than-that"
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(d.body))
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(d.body)))
	if err != nil {
		return 0
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Event-Key", d.event)
	request.Header.Set("X-Hub-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	answer, err := client.Do(request)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}

// commitStatus is an event that says of a pipeline that it runs or has ended.
func commitStatus(repository string, build int, state string) delivery {
	uuid := map[string]string{"app": emulator.AppRepositoryUUID, "web": emulator.WebRepositoryUUID}[repository]
	if uuid == "" {
		uuid = fmt.Sprintf("{dddddddd-0000-4000-8000-%012d}", build)
	}
	return delivery{event: "repo:commit_status_updated", signed: true, body: fmt.Sprintf(
		`{"repository":{"type":"repository","uuid":%q,"full_name":"acme/%s","workspace":{"uuid":%q,"slug":"acme"}},`+
			`"commit_status":{"type":"build","state":%q,"key":"-1","url":"https://bitbucket.org/acme/%s/addon/pipelines/home#!/results/%d"}}`,
		uuid, repository, emulator.WorkspaceUUID, state, repository, build)}
}

// forge delivers events for the time of a fault: with a wrong signature, of a pipeline and of a
// repository that there are not, and of the end of pipelines that are live.
func (r *Round) forge(ctx context.Context, f plan.Fault) bool {
	r.note("%s", f)
	ctx, cancel := context.WithTimeout(ctx, r.clock.Real(f.For))
	defer cancel()
	accepted, wrong := 0, 0
	for n := 0; sleep(ctx, lookEvery); n++ {
		state, err := r.control.State(ctx)
		if err != nil {
			continue
		}
		forged := []delivery{
			commitStatus("app", 100_000+n, "INPROGRESS"), commitStatus("web", 100_000+n, "SUCCESSFUL"),
			commitStatus(fmt.Sprintf("none-%d", n), n, "INPROGRESS"),
			{event: "repo:push", body: commitStatus("app", 1, "").body},
		}
		for _, step := range state.Steps {
			if step.Outcome == emulator.OutcomeQueued || step.Outcome == emulator.OutcomeWaiting {
				forged = append(forged, commitStatus(step.Repository, step.Build, "SUCCESSFUL"))
				break
			}
		}
		for _, d := range forged {
			status := d.post(ctx, httpClient, r.hookURL())
			if status > 0 && status < 300 {
				accepted++
				if !d.signed {
					wrong++
				}
			}
		}
	}
	if wrong > 0 {
		r.violate("%d deliveries with a wrong signature were accepted", wrong)
	}
	r.note("%d forged deliveries were accepted as hints", accepted)
	return true
}

// The bounds of a flood of deliveries, on the real clock. It is 300 per second, because all
// processes of several rounds share the machine's cores. The tests of package webhook send more.
const (
	hookFlooders   = 30
	hookFloodEvery = 100 * time.Millisecond
	hookFloodMost  = 10_000
	hookFloodFor   = 10 * time.Second
)

// heapGrowth is by how much the heap of the scaler may have grown after a flood. The bodies of a
// flood are several times as large.
const heapGrowth = 4 << 20

// floodHooks delivers many events, most with a wrong signature, and compares the scaler's heap
// before and after.
func (r *Round) floodHooks(ctx context.Context, f plan.Fault) bool {
	before, starts, ok := r.heap(ctx)
	if !ok {
		r.note("no leader for %s", f)
		return false
	}
	r.note("%s", f)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: hookFlooders}}
	defer client.CloseIdleConnections()
	flood, cancel := context.WithTimeout(ctx, hookFloodFor)
	defer cancel()
	padding := strings.Repeat("x", 8<<10)
	var sent, good, forged atomic.Int64
	var flooders sync.WaitGroup
	for range hookFlooders {
		flooders.Go(func() {
			for sleep(flood, hookFloodEvery) {
				n := sent.Add(1)
				if n > hookFloodMost {
					return
				}
				d := commitStatus("app", 200_000+int(n), "INPROGRESS")
				if d.signed = n%10 == 0; !d.signed {
					d.body = fmt.Sprintf(`{"n":%d,"x":%q}`, n, padding)
				}
				if status := d.post(flood, client, r.hookURL()); status > 0 && status < 300 {
					good.Add(1)
					if !d.signed {
						forged.Add(1)
					}
				}
			}
		})
	}
	flooders.Wait()
	if n := forged.Load(); n > 0 {
		r.violate("%d deliveries with a wrong signature were accepted", n)
	}
	r.note("%d deliveries, %d accepted", sent.Load(), good.Load())
	var after uint64
	err := r.until(ctx, "the heap to be as small as before", time.Minute, func(ctx context.Context) error {
		now, again, ok := r.heap(ctx)
		if !ok {
			return fmt.Errorf("no leader")
		}
		if after = now; again == starts && now > before+heapGrowth {
			return fmt.Errorf("heap is %d KiB, was %d before the flood", now>>10, before>>10)
		}
		return nil
	})
	if err != nil {
		r.violate("memory after %d deliveries: %v", sent.Load(), err)
	}
	r.note("heap was %d KiB, is %d", before>>10, after>>10)
	return true
}

// heap returns the size of the leader's heap, and which process that is.
func (r *Round) heap(ctx context.Context) (size uint64, process string, ok bool) {
	one, ok := r.leader(ctx)
	if !ok {
		return 0, "", false
	}
	one.mu.Lock()
	process = fmt.Sprint(one.pod, one.starts)
	one.mu.Unlock()
	text, err := fetch(ctx, "http://"+one.http+"/metrics")
	if err != nil {
		return 0, "", false
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		var value float64
		if _, err := fmt.Sscanf(line, "go_memstats_heap_alloc_bytes %g", &value); err == nil {
			return uint64(value), process, true
		}
	}
	return 0, "", false
}

// fetch reads what a URL shows.
func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := httpClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
