package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestProfilesAreServedOnLoopbackAlone(t *testing.T) {
	for given, want := range map[string]struct{ address, fault string }{
		":6060":           {"127.0.0.1:6060", ""},
		"localhost:6060":  {"localhost:6060", ""},
		"127.0.0.2:6060":  {"127.0.0.2:6060", ""},
		"[::1]:6060":      {"[::1]:6060", ""},
		"0.0.0.0:6060":    {"", `--pprof-listen: "0.0.0.0:6060", want :port or a loopback address`},
		"[::]:6060":       {"", "want :port or a loopback address"},
		"10.0.0.1:6060":   {"", "want :port or a loopback address"},
		"scaler:6060":     {"", "want :port or a loopback address"},
		":99999":          {"", `--pprof-listen: ":99999", want host:port or :port`},
		":-1":             {"", "want host:port or :port"},
		"localhost:60 60": {"", "want host:port or :port"},
		":":               {"", "want host:port or :port"},
		"6060":            {"", `--pprof-listen: "6060", want host:port or :port`},
	} {
		c, err := parse([]string{"--namespace", "ns", "--pod-name", "p", "--pprof-listen", given}, empty)
		switch {
		case want.fault != "" && (err == nil || !strings.Contains(err.Error(), want.fault)):
			t.Errorf("%s: got %v, want %s", given, err, want.fault)
		case want.fault == "" && err != nil:
			t.Errorf("%s: %v", given, err)
		case want.fault == "":
			if address, err := c.pprofAddress(); err != nil || address != want.address {
				t.Errorf("%s: served at %s, %v, want %s", given, address, err, want.address)
			}
		}
	}
}

// profiles returns the address at which profiles are served; empty if they are not.
func profiles(t *testing.T, c config) string {
	t.Helper()
	core, logged := observer.New(zap.InfoLevel)
	end, err := serveProfiles(t.Context(), c, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	for _, entry := range logged.All() {
		address, _ := entry.ContextMap()["pprof"].(string)
		return address
	}
	return ""
}

func TestProfilesAreServedOnRequestOnly(t *testing.T) {
	if address := profiles(t, config{}); address != "" {
		t.Errorf("served at %s without the flag", address)
	}
	address := profiles(t, config{pprofListen: ":0"})
	if host, _, _ := net.SplitHostPort(address); host != "127.0.0.1" {
		t.Fatalf("served at %q", address)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, name := range []string{"heap", "goroutine", "symbol", "profile?seconds=1", "trace?seconds=0.1"} {
		target, err := url.Parse("http://" + address + "/debug/pprof/" + name)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, target.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes, %v", name, response.Status, len(body), err)
		}
	}
}
