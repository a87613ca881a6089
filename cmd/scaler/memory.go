package main

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// memoryMax is where Linux says how much memory the container may have, with cgroup v2.
const memoryMax = "/sys/fs/cgroup/memory.max"

// heapShare is the share of the container's memory that the Go runtime may use. The rest is for pages
// of the program.
const heapShare = 0.9

// heapGrowth is by how many percent the heap may grow until garbage is collected. It is half of Go's
// default: most of the heap belongs to the connections of sidecars and lives long, so that each
// collection costs little and the headroom much.
const heapGrowth = 50

// saveMemory has the Go runtime collect garbage at less headroom than by default. A GOGC in the
// environment takes precedence.
func saveMemory(lookup func(string) (string, bool)) {
	if _, given := lookup("GOGC"); !given {
		debug.SetGCPercent(heapGrowth)
	}
}

// limitMemory has the Go runtime collect garbage more often as the memory comes near the container's
// limit: otherwise the kernel ends a scaler with thousands of sidecars whose heap is mostly garbage.
// A GOMEMLIMIT in the environment takes precedence, and without a limit nothing changes.
func limitMemory(file string, lookup func(string) (string, bool), log *zap.Logger) {
	if _, given := lookup("GOMEMLIMIT"); given {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return // no cgroup v2
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || limit <= 0 {
		return // "max": none
	}
	limit = int64(heapShare * float64(limit))
	debug.SetMemoryLimit(limit)
	log.Info("memory is limited as that of the container", zap.Int64("bytes", limit))
}
