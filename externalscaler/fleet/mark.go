package fleet

import "time"

// Report takes what a pod's sidecar says of its runner.
func (f *Fleet) Report(podUID string, report Telemetry) {
	now := f.config.Clock.Now()
	report.Since = now
	news := f.telemetry.report(podUID, report)
	f.measure(podUID, news, now)
	f.Changed()
}

// measure passes on how long a runner took to what it has just reported.
func (f *Fleet) measure(podUID string, news news, now time.Time) {
	if !news.online && news.begun.IsZero() {
		return
	}
	group, m, ok := f.Member(podUID)
	if !ok {
		return
	}
	if news.online && m.Job != nil {
		f.config.Measures.CameOnline(group.GroupKey, now.Sub(m.Job.CreatedOn))
	}
	if !news.begun.IsZero() {
		f.config.Measures.StepRan(group.GroupKey, now.Sub(news.begun))
	}
}

// Detach notes that a pod's sidecar can no longer be heard.
func (f *Fleet) Detach(podUID string) {
	f.telemetry.detach(podUID, f.config.Clock.Now())
	f.Changed()
}

// NoteRegisterRequest notes that a pod asks for its registration.
func (f *Fleet) NoteRegisterRequest(podUID string) {
	now := f.config.Clock.Now()
	f.telemetry.change(podUID, func(pod *podMemory) { pod.asked = now })
}

// NoteRefusal notes why Bitbucket has refused the registration that a pod asked for last; empty if
// it has not.
func (f *Fleet) NoteRefusal(podUID, why string) {
	changed := false
	f.telemetry.change(podUID, func(pod *podMemory) { pod.refused, changed = why, pod.refused != why })
	if changed {
		f.Changed()
	}
}

// MarkStopping notes that a pod was told to end: it counts for nothing from now on.
func (f *Fleet) MarkStopping(podUID string) {
	now := f.config.Clock.Now()
	f.telemetry.change(podUID, func(pod *podMemory) {
		if pod.stopping.IsZero() {
			pod.stopping = now
		}
	})
	f.Changed()
}

// UnmarkStopping takes MarkStopping back, because the pod was not told.
func (f *Fleet) UnmarkStopping(podUID string) {
	f.telemetry.change(podUID, func(pod *podMemory) { pod.stopping = time.Time{} })
	f.Changed()
}

// IsStopping reports whether a pod was told to end.
func (f *Fleet) IsStopping(podUID string) bool { return !f.telemetry.get(podUID).stopping.IsZero() }

// MarkReplaced notes that a pod's runner ends once its successor is online.
func (f *Fleet) MarkReplaced(podUID string) {
	group, _, ok := f.Member(podUID)
	if !ok {
		return
	}
	jobs := group.jobs()
	f.telemetry.change(podUID, func(pod *podMemory) { pod.replaced = jobs })
	f.Changed()
}

// UnmarkReplaced takes MarkReplaced back.
func (f *Fleet) UnmarkReplaced(podUID string) {
	f.telemetry.change(podUID, func(pod *podMemory) { pod.replaced = nil })
	f.Changed()
}
