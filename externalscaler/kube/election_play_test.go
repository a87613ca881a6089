package kube

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestNeverTwoLeaders disturbs three processes at random: it suspends and resumes them,
// makes the Lease unreachable, ends and refuses watches, loses or delays answers to calls that took effect, stops
// processes with or without a release of the Lease, and starts others.
func TestNeverTwoLeaders(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

// replica is a process and what the test knows about it.
type replica struct {
	*process
	resume func()
	// until is the end of its last term, as the process itself saw it.
	until time.Time
	// orderly is true if the process was stopped and all its work had ended.
	orderly bool
}

func play(t *testing.T, random *rand.Rand) {
	s := &leaseStore{}
	var now, former []*replica
	started := 0
	start := func() {
		started++
		now = append(now, &replica{process: s.join(t, strconv.Itoa(started)), resume: func() {}})
	}
	for range 3 {
		start()
	}
	for range 2000 {
		if t.Failed() {
			break
		}
		pass(time.Duration(1+random.IntN(400)) * time.Millisecond)
		synctest.Wait()
		now, former = look(t, now, former)
		for len(now) < 3 {
			start()
		}
		if random.IntN(12) == 0 {
			disturb(now[random.IntN(len(now))], random)
		}
	}
	for _, r := range now {
		r.resume()
		stopAll(r.process)
	}
}

// look checks that at most one replica leads, and separates those that have ended.
func look(t *testing.T, now, former []*replica) (still, ended []*replica) {
	t.Helper()
	var leader *replica
	for _, r := range now {
		if _, suspended := r.disturbed(); suspended { // it cannot act
			continue
		}
		if r.leadsNow() {
			if leader != nil {
				t.Errorf("%s and %s both lead", leader.id, r.id)
			}
			leader = r
			term, _ := r.Term()
			r.until = term.Until
		}
	}
	for _, r := range now {
		select {
		case <-r.ended:
			former = append(former, r)
		default:
			still = append(still, r)
		}
	}
	if leader == nil {
		return still, former
	}
	if term, _ := leader.Term(); time.Now().Before(term.From) {
		return still, former
	}
	for _, r := range append(former, still...) {
		if since := time.Since(r.until); r != leader && !r.orderly && since < grace {
			t.Errorf("%s may write although %s could write until %v ago", leader.id, r.id, since)
		}
	}
	return still, former
}

// disturb disturbs a replica, or ends its disturbance.
func disturb(r *replica, random *rand.Rand) {
	if disturbed, _ := r.disturbed(); disturbed {
		r.resume()
		r.resume = func() {}
		return
	}
	switch random.IntN(6) {
	case 0:
		paused := make(chan struct{})
		r.set(func(p *process) { p.paused = paused })
		r.resume = func() { close(paused); r.set(func(p *process) { p.paused = nil }) }
	case 1:
		r.set(func(p *process) { p.unreachable = true })
		r.resume = func() { r.set(func(p *process) { p.unreachable = false }) }
	case 2:
		r.set(func(p *process) { p.answersLost = true })
		r.resume = func() { r.set(func(p *process) { p.answersLost = false }) }
	case 3:
		r.set(func(p *process) { p.slow = time.Duration(1+random.IntN(1900)) * time.Millisecond })
		r.resume = func() { r.set(func(p *process) { p.slow = 0 }) }
	case 4:
		r.set(func(p *process) { p.blind = true })
		r.resume = func() { r.set(func(p *process) { p.blind = false }) }
	case 5:
		r.orderly = true
		r.stop()
	}
}
