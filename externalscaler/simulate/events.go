package simulate

import (
	"container/heap"
	"time"
)

// event is something that happens at some time.
type event struct {
	at     int64 // nanoseconds since the epoch
	number int   // events of one moment happen in the order in which they were planned
	do     func()
}

// events are what will happen, the next one first.
type events struct {
	due     []event
	planned int
}

// plan has something happen at some time.
func (e *events) plan(at time.Time, do func()) {
	e.planned++
	heap.Push(e, event{at: at.UnixNano(), number: e.planned, do: do})
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (e *events) Len() int { return len(e.due) }

// Less implements heap.Interface.
func (e *events) Less(i, j int) bool {
	if e.due[i].at != e.due[j].at {
		return e.due[i].at < e.due[j].at
	}
	return e.due[i].number < e.due[j].number
}

// Swap implements heap.Interface.
func (e *events) Swap(i, j int) { e.due[i], e.due[j] = e.due[j], e.due[i] }

// Push implements heap.Interface.
func (e *events) Push(x any) { e.due = append(e.due, x.(event)) } //nolint:forcetypeassert // of plan

// Pop implements heap.Interface.
func (e *events) Pop() any {
	last := e.due[len(e.due)-1]
	e.due[len(e.due)-1] = event{}
	e.due = e.due[:len(e.due)-1]
	return last
}
