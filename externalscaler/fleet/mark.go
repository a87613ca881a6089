package fleet

// Report takes what a pod's sidecar says of its runner.
func (f *Fleet) Report(podUID string, report Telemetry) {
	report.Since = f.config.Clock.Now()
	f.telemetry.report(podUID, report)
	f.Changed()
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
