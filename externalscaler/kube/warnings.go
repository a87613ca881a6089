package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"bitbucket-runner-scaler/externalscaler/fleet"
)

// Why a Job has no pod (a quota, an admission webhook, Pod Security) or why a pod's
// containers are not created (a volume) is in no status, but only in an Event. Events are
// read for Jobs and pods that make no progress, and for nothing else.
const (
	// slowAfter is the age from which a Job without a pod, or a pod on a node whose
	// containers have not started, makes no progress.
	slowAfter = 20 * time.Second
	// warningsEvery is the time between two looks, and warningsAgain that between two
	// lists of one namespace.
	warningsEvery = 10 * time.Second
	warningsAgain = 30 * time.Second
	// maxNamespaces bounds the namespaces of one look, maxPages the pages of a list of Events,
	// and maxWarnings the Events of a page.
	maxNamespaces = 10
	maxPages      = 5
	maxWarnings   = 500
)

// warnings are what Events say about Jobs and pods that make no progress.
type warnings struct {
	mu     sync.Mutex
	causes map[types.UID]fleet.Cause
	// read is when the Events of each namespace were last read.
	read map[string]time.Time
}

func newWarnings() *warnings {
	return &warnings{causes: map[types.UID]fleet.Cause{}, read: map[string]time.Time{}}
}

// of returns what is known about a Job or pod.
func (w *warnings) of(uid types.UID) fleet.Cause {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.causes[uid]
}

// WatchWarnings finds out from Events why Jobs and pods of this installation make no
// progress, until ctx ends. Only the leader needs to know.
func (c *Cluster) WatchWarnings(ctx context.Context, log *zap.Logger) error {
	ticker := time.NewTicker(warningsEvery)
	defer ticker.Stop()
	logged := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			err := c.readWarnings(ctx, now)
			if err == nil {
				logged = ""
			} else if logged != err.Error() && ctx.Err() == nil {
				logged = err.Error()
				log.Warn("why some Jobs have no running pod is not known", zap.Error(err))
			}
		}
	}
}

// readWarnings reads the Events of the namespaces in which something makes no progress.
func (c *Cluster) readWarnings(ctx context.Context, now time.Time) error {
	slow := c.slow(now)
	uids := map[types.UID]struct{}{}
	for _, objects := range slow {
		for uid := range objects {
			uids[uid] = struct{}{}
		}
	}
	w := c.warnings
	w.mu.Lock()
	known := len(w.causes)
	maps.DeleteFunc(w.causes, func(uid types.UID, _ fleet.Cause) bool { _, ok := uids[uid]; return !ok })
	if len(w.causes) < known {
		c.kept.version.Add(1) // what Jobs and pods wait for is read again
	}
	maps.DeleteFunc(w.read, func(namespace string, _ time.Time) bool { return len(slow[namespace]) == 0 })
	due := slices.DeleteFunc(slices.Collect(maps.Keys(slow)), func(namespace string) bool {
		last, read := w.read[namespace]
		return read && now.Sub(last) < warningsAgain
	})
	slices.SortFunc(due, func(a, b string) int { return w.read[a].Compare(w.read[b]) }) // those that wait longest first
	due = due[:min(len(due), maxNamespaces)]
	for _, namespace := range due {
		w.read[namespace] = now
	}
	w.mu.Unlock()
	var errs []error
	for _, namespace := range due {
		found, err := c.warningsIn(ctx, namespace, slow[namespace])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.mu.Lock()
		maps.Copy(w.causes, found)
		w.mu.Unlock()
		c.notify()
	}
	return errors.Join(errs...)
}

// slow are the UIDs of the Jobs and pods that make no progress, by namespace.
func (c *Cluster) slow(now time.Time) map[string]map[types.UID]struct{} {
	ours := map[string]struct{}{}
	for _, scaledJob := range c.ScaledJobs() {
		ours[scaledJob.UID] = struct{}{}
	}
	found := map[string]map[types.UID]struct{}{}
	for _, obj := range c.jobs.GetStore().List() {
		job, ok := obj.(*batchv1.Job)
		if !ok || finished(job) {
			continue
		}
		if owner, _ := controlledBy(job, "ScaledJob", scaledJobs.Group); owner == "" {
			continue
		} else if _, ok := ours[owner]; !ok {
			continue
		}
		uid, since := job.UID, job.CreationTimestamp
		if pod := c.podOfJob(job); pod != nil {
			if pod.Spec.NodeName == "" || pod.Status.Phase != corev1.PodPending || waits(pod) != (fleet.Cause{}) {
				continue // it waits for a node, has started, or its status shows why it has not
			}
			uid, since = pod.UID, pod.CreationTimestamp
		}
		if now.Sub(since.Time) < slowAfter {
			continue
		}
		if found[job.Namespace] == nil {
			found[job.Namespace] = map[types.UID]struct{}{}
		}
		found[job.Namespace][uid] = struct{}{}
	}
	return found
}

// warningsIn reads the newest warning about each of the objects.
func (c *Cluster) warningsIn(ctx context.Context, namespace string, about map[types.UID]struct{}) (map[types.UID]fleet.Cause, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var events []corev1.Event
	options := metav1.ListOptions{FieldSelector: "type=" + corev1.EventTypeWarning, Limit: maxWarnings}
	for range maxPages {
		page, err := c.client.CoreV1().Events(namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("list Events in %s: %w", namespace, err)
		}
		events = append(events, page.Items...)
		if options.Continue = page.Continue; options.Continue == "" {
			break
		}
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return seenOn(&a).Compare(seenOn(&b)) })
	found := map[types.UID]fleet.Cause{}
	for i := range events {
		event := &events[i]
		// Our own Events are no causes. A failed probe says nothing about a container that has not started.
		if _, ok := about[event.InvolvedObject.UID]; ok && event.Type == corev1.EventTypeWarning && event.Reason != "Unhealthy" && event.Source.Component != component {
			found[event.InvolvedObject.UID] = fleet.Cause{Reason: event.Reason, Message: oneLine(event.Message)}
		}
	}
	return found, nil
}

// seenOn is when an Event last happened.
func seenOn(event *corev1.Event) time.Time {
	switch {
	case event.Series != nil:
		return event.Series.LastObservedTime.Time
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.Time
	}
	return event.EventTime.Time
}
