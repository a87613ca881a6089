package bed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Gauge reads what a process needs. HTTP is where it serves /metrics, and Profiles where it serves
// its profiles; empty if it serves none.
type Gauge struct {
	PID            int
	HTTP, Profiles string
}

// client keeps no connection, so that nothing is left open.
var client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

// get returns the body of an answer with status 200.
func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return body, err
}

// Metrics returns the values of all metrics by name, summed over their labels. A histogram has its
// sum and count, with _sum and _count.
func (g Gauge) Metrics(ctx context.Context) (map[string]float64, error) {
	body, err := get(ctx, g.HTTP+"/metrics")
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	values := map[string]float64{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			values[name] += m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
			if h := m.GetHistogram(); h != nil {
				values[name+"_sum"] += h.GetSampleSum()
				values[name+"_count"] += float64(h.GetSampleCount())
			}
		}
	}
	return values, nil
}

// Collect collects the garbage, so that the heap is what is needed.
func (g Gauge) Collect(ctx context.Context) error {
	if _, err := get(ctx, g.Profiles+"/debug/pprof/heap?gc=1"); err != nil {
		return fmt.Errorf("collect garbage: %w", err)
	}
	return nil
}

// Profile returns a CPU profile or, if seconds is 0, the heap's.
func (g Gauge) Profile(ctx context.Context, seconds int) ([]byte, error) {
	if seconds == 0 {
		return get(ctx, g.Profiles+"/debug/pprof/heap?gc=1")
	}
	return get(ctx, g.Profiles+"/debug/pprof/profile?seconds="+strconv.Itoa(seconds))
}

// Memory is resident memory in bytes, as Linux counts it: now, at most, and the part of now that is
// not of files such as the program itself.
type Memory struct{ Now, Peak, Anonymous float64 }

// Memory returns the memory of the process.
func (g Gauge) Memory() (m Memory, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID))
	if err != nil {
		return m, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			m.Now = kib * 1024
		case "RssAnon:":
			m.Anonymous = kib * 1024
		case "VmHWM:":
			m.Peak = kib * 1024
		}
	}
	return m, nil
}
