package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// groupHistograms are the histograms of each group. They are kept as long as the group exists.
type groupHistograms struct {
	mu     sync.Mutex
	vecs   map[*Metric]*prometheus.HistogramVec
	groups map[fleet.GroupKey]struct{}
}

func newGroupHistograms() *groupHistograms {
	h := &groupHistograms{vecs: map[*Metric]*prometheus.HistogramVec{}, groups: map[fleet.GroupKey]struct{}{}}
	for _, m := range []*Metric{waits, starts, steps, lives, took} {
		h.vecs[m] = m.newHistograms()
	}
	return h
}

func (h *groupHistograms) observe(m *Metric, key fleet.GroupKey, value float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groups[key] = struct{}{}
	h.vecs[m].WithLabelValues(key.Namespace, key.Name).Observe(max(0, value))
}

// collect shows the histograms of these groups, and drops those of all others.
func (h *groupHistograms) collect(ch chan<- prometheus.Metric, groups map[fleet.GroupKey]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m, vec := range h.vecs {
		for key := range h.groups {
			if byQueue, known := groups[key]; !known || m == waits && !byQueue {
				vec.DeleteLabelValues(key.Namespace, key.Name)
			}
		}
		for key, byQueue := range groups {
			if m != waits || byQueue {
				vec.WithLabelValues(key.Namespace, key.Name) // shows 0 at first
			}
		}
		vec.Collect(ch)
	}
	clear(h.groups)
	for key := range groups {
		h.groups[key] = struct{}{}
	}
}
