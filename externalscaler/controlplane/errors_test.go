package controlplane_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"bitbucket-runner-scaler/bitbucket/emulator"
)

// repeated returns what an error text says twice: the same verb, or the same part, as in
// "list runners of acme: list runners of acme: status 500".
func repeated(text string) string {
	verbs := []string{"create", "delete", "deregister", "disable", "drain", "find", "get", "list", "read", "register", "resolve", "write"}
	said := map[string]bool{}
	for part := range strings.SplitSeq(text, ": ") {
		key := part
		if verb, _, _ := strings.Cut(part, " "); slices.Contains(verbs, verb) {
			key = verb
		}
		if said[key] {
			return key
		}
		said[key] = true
	}
	return ""
}

func TestErrorsDoNotRepeatThemselves(t *testing.T) {
	t.Parallel()
	if repeated("register: register runner: register x in acme") != "register" || repeated("scope acme: list runners of acme: status 500") != "" {
		t.Fatal("a repetition is not found, or found where there is none")
	}
	core, logged := observer.New(zapcore.DebugLevel)
	var texts []string
	virtually(t, 1, func(w *world) {
		for _, group := range []string{"surplus", "ending", "refused"} {
			w.apply(group, "w0", map[string]string{"min": "2", "max": "4"}, works)
		}
		w.after(3 * time.Minute)
		w.live("ending", crashes)
		for _, group := range w.cluster.ScaledJobs() {
			if group.Name == "surplus" {
				w.cluster.Change(group.UID, group.Generation, map[string]string{"min": "1"})
			} else {
				w.cluster.Change(group.UID, "2", map[string]string{"min": "4"})
			}
		}
		w.faults(emulator.FaultRule{Method: http.MethodPut, Path: "/*", Status: 500, Probability: 0.5}, emulator.FaultRule{Method: http.MethodDelete, Path: "/*", Status: 500},
			emulator.FaultRule{Method: http.MethodPost, Path: "/2.0/*", Status: 500, Probability: 0.5})
		w.after(20 * time.Minute)
		w.apply("typo", "no-such-workspace", nil, nil)
		w.faults(emulator.FaultRule{Path: "/*", Status: 503})
		w.after(40 * time.Minute)
		for _, group := range w.plane.Status().Groups() {
			texts = append(texts, group.Error)
		}
		w.mu.Lock()
		texts = append(texts, w.refusals...)
		w.mu.Unlock()
		w.faults()
	}, func(w *world) { w.config.Logger = zap.New(core) })
	for _, entry := range logged.All() {
		if err, ok := entry.ContextMap()["error"].(string); ok {
			texts = append(texts, strings.Split(err, "\n")...)
		}
	}
	kinds := map[string]bool{}
	for _, text := range texts {
		if again := repeated(text); again != "" && !kinds[again+text[:min(20, len(text))]] {
			kinds[again+text[:min(20, len(text))]] = true
			t.Errorf("%q is said twice in %q", again, text)
		}
	}
	for _, kind := range []string{"disable", "delete", "list", "create", "resolve"} {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, kind+" ") }) {
			t.Errorf("no error about %s was seen", kind)
		}
	}
}
