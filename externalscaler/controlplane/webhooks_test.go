package controlplane_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"bitbucket-runner-scaler/externalscaler/controlplane"
	"bitbucket-runner-scaler/externalscaler/leader"
	"bitbucket-runner-scaler/externalscaler/webhook"
)

// neverLeads is the election of a replica that stays a standby.
type neverLeads struct{}

// Term implements leader.Election.
func (neverLeads) Term() (leader.LeaseTerm, bool) { return leader.LeaseTerm{}, false }

// Run implements leader.Election.
func (neverLeads) Run(ctx context.Context, _ func(context.Context) error) error {
	<-ctx.Done()
	return nil
}

// serveWebhooks runs a control plane with a webhook's secret in the environment, and returns
// the addresses of its deliveries and of its metrics.
func serveWebhooks(t *testing.T, election leader.Election) (webhooks, metrics string) {
	t.Helper()
	var listeners []net.Listener
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, listener)
	}
	plane, err := controlplane.New(controlplane.Config{
		Owner: "keda.test", HourlyBudget: 100, Election: election, Webhooks: listeners[2], Logger: zaptest.NewLogger(t),
		Lookup: func(name string) (string, bool) {
			return map[string]string{"BITBUCKET_ACCESS_TOKEN": "token", "BITBUCKET_WEBHOOK_SECRET": "secret-of-the-webhook"}[name], true
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plane.Run(ctx, listeners[0], listeners[1]) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listeners[2].Addr().String() + webhook.Path, "http://" + listeners[1].Addr().String() + "/metrics"
}

// exchange returns the status and the body of an answer.
func exchange(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestTheLeaderTakesDeliveriesOfWebhooks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		election leader.Election
		status   int
		metric   string
	}{
		"leader":  {leader.Alone{}, 202, `bitbucket_runner_scaler_webhook_deliveries_total{event="repo:push",outcome="accepted"} 1`},
		"standby": {neverLeads{}, 503, `bitbucket_runner_scaler_webhook_deliveries_total{event="repo:push",outcome="standby"} 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			webhooks, metrics := serveWebhooks(t, c.election)
			const body = `{"repository":{"full_name":"acme/app"}}`
			sum := hmac.New(sha256.New, []byte("secret-of-the-webhook"))
			sum.Write([]byte(body))
			r, _ := http.NewRequest(http.MethodPost, webhooks, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Event-Key", "repo:push")
			r.Header.Set("X-Hub-Signature", "sha256="+hex.EncodeToString(sum.Sum(nil)))
			if status, text := exchange(t, r); status != c.status {
				t.Errorf("got status %d %s, want %d", status, text, c.status)
			}
			r, _ = http.NewRequest(http.MethodGet, metrics, nil)
			_, text := exchange(t, r)
			for _, want := range []string{c.metric, `webhook_deliveries_total{event="other",outcome="forged"} 0`, `webhook_last_delivery_timestamp_seconds{credentials="default"}`} {
				if !strings.Contains(text, want) {
					t.Errorf("metrics lack %s", want)
				}
			}
			r, _ = http.NewRequest(http.MethodGet, strings.TrimSuffix(webhooks, webhook.Path)+"/metrics", nil)
			if status, _ := exchange(t, r); status != 404 {
				t.Errorf("the address for webhooks serves metrics: status %d", status)
			}
		})
	}
}
