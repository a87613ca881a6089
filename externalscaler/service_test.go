package externalscaler

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	clocktesting "k8s.io/utils/clock/testing"

	"bitbucket-runner-scaler/externalscaler/crashloop"
	"bitbucket-runner-scaler/externalscaler/credentials"
	"bitbucket-runner-scaler/externalscaler/fleet"
	"bitbucket-runner-scaler/externalscaler/policy"
	"bitbucket-runner-scaler/externalscaler/runnergroup"
	"bitbucket-runner-scaler/externalscaler/scope"
)

// observed is a fleet whose one group the test sets.
type observed struct {
	mu      sync.Mutex
	group   *fleet.GroupSnapshot
	err     error
	changed chan struct{}
}

func (o *observed) set(count int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	spec := runnergroup.Group{Rules: policy.Rules{Strategy: policy.Fixed, Count: count}}
	o.group, o.err = &fleet.GroupSnapshot{Spec: spec}, err
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observed) Group(fleet.GroupKey) (*fleet.GroupSnapshot, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.group, o.err
}

func (o *observed) Wait() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

func (o *observed) Known(fleet.GroupKey) bool { return true }

func (o *observed) Carries(fleet.GroupKey, map[string]string) bool { return false }

func (o *observed) Serves(context.Context, fleet.GroupKey, runnergroup.Group) error { return nil }
func (o *observed) Call(context.Context, fleet.GroupKey, runnergroup.Group) (*fleet.GroupSnapshot, error) {
	return o.Group(fleet.GroupKey{})
}

func TestStreamSendsTheCurrentValueThenEachChange(t *testing.T) {
	o := &observed{changed: make(chan struct{})}
	o.set(0, nil)
	decisions := NewDecisions(o, steady{}, clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), zap.NewNop())
	conn, _ := serve(t, NewService(o, decisions, true))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ref := &pb.ScaledObjectRef{Namespace: "ns", Name: "g", ScalerMetadata: map[string]string{"workspace": "acme", "labels": "x"}}
	stream, err := pb.NewExternalScalerClient(conn).StreamIsActive(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	next := func(want bool) {
		t.Helper()
		got, err := stream.Recv()
		if err != nil || got.GetResult() != want {
			t.Fatalf("got %v, %v, want %v", got, err, want)
		}
	}
	next(false)
	o.set(0, scope.ErrNoList) // this neither counts as 0 nor ends the stream
	o.set(3, nil)
	next(true)
	o.set(4, nil) // the answer does not change
	o.set(0, nil)
	next(false)
	o.set(0, credentials.ErrForbidden)
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, want PERMISSION_DENIED", err)
	}
}

func TestStatusCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want codes.Code
	}{
		"metadata":        {&runnergroup.InvalidError{}, codes.InvalidArgument},
		"duplicate":       {&fleet.DuplicateError{}, codes.InvalidArgument},
		"no ScaledJob":    {fleet.ErrUnknownGroup, codes.NotFound},
		"namespace":       {credentials.ErrForbidden, codes.PermissionDenied},
		"credentials":     {credentials.ErrUnknownSet, codes.FailedPrecondition},
		"scopes":          {fleet.ErrTooManyScopes, codes.ResourceExhausted},
		"no current list": {scope.ErrNoList, codes.Unavailable},
		"anything else":   {context.DeadlineExceeded, codes.Unavailable},
	} {
		if got := status.Code(statusOf(fmt.Errorf("wrapped: %w", c.err))); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// steady is a group whose Jobs do not fail.
type steady struct{}

func (steady) State(*fleet.GroupSnapshot) crashloop.State { return crashloop.State{} }

// failing are groups whose Jobs keep failing.
type failing struct{ state crashloop.State }

func (f failing) State(*fleet.GroupSnapshot) crashloop.State { return f.state }

func TestAFailingGroupIsToldFewerJobsAndWhy(t *testing.T) {
	key := fleet.GroupKey{Namespace: "ns", Name: "g"}
	groups := known{key: &fleet.GroupSnapshot{GroupKey: key, Spec: runnergroup.Group{Rules: policy.Rules{Strategy: policy.Fixed, Count: 5}}, Observation: policy.Observation{Idle: 1}}}
	for tries := range 2 {
		state := crashloop.State{Failures: 3, Tries: tries, Cause: fleet.Cause{Reason: "OOMKilled"}}
		d := NewDecisions(groups, failing{state}, clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), zap.NewNop())
		got, err := d.Decide(key)
		if err != nil || got.Effective != 5 || got.Target != 1+tries || got.Reason != policy.ReasonCrashLoop || !strings.Contains(got.Note, "OOMKilled") {
			t.Errorf("%d tries: got %+v, %v", tries, got, err)
		}
	}
}

func TestDecisionsKeepTheLastChangesAndDropDeletedGroups(t *testing.T) {
	groups := known{}
	d := NewDecisions(groups, steady{}, clocktesting.NewFakePassiveClock(time.Unix(1000, 0)), zap.NewNop())
	key := fleet.GroupKey{Namespace: "ns", Name: "g"}
	for i := range 2 * keptDecisions {
		groups[key] = &fleet.GroupSnapshot{GroupKey: key, Spec: runnergroup.Group{Rules: policy.Rules{Strategy: policy.Fixed, Count: i % 50}}}
		for range 2 { // the second call is for the same snapshot
			if got, err := d.Decide(key); err != nil || got.Target != i%50 {
				t.Fatalf("got %+v, %v, want %d", got, err, i%50)
			}
		}
	}
	past := d.Past(key)
	if len(past) != keptDecisions || past[keptDecisions-1].Target != (2*keptDecisions-1)%50 {
		t.Errorf("got %d decisions, the last %+v", len(past), past[len(past)-1])
	}
	if got := d.Tally(key).Changes[policy.ReasonFixed]; got != 2*keptDecisions {
		t.Errorf("%d changes are counted, want %d", got, 2*keptDecisions)
	}
	delete(groups, key)
	for i := range 10 {
		other := fleet.GroupKey{Namespace: "ns", Name: strconv.Itoa(i)}
		groups[other] = &fleet.GroupSnapshot{GroupKey: other}
		if _, err := d.Decide(other); err != nil {
			t.Fatal(err)
		}
		delete(groups, other)
	}
	if len(d.known) != 1 || d.Past(key) != nil || d.Tally(key).Changes != nil {
		t.Errorf("got %d groups, want only the last", len(d.known))
	}
}

// known contains groups by key.
type known map[fleet.GroupKey]*fleet.GroupSnapshot

func (k known) Group(key fleet.GroupKey) (*fleet.GroupSnapshot, error) {
	if group, ok := k[key]; ok {
		return group, nil
	}
	return nil, fleet.ErrUnknownGroup
}
