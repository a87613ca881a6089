package jobfactory

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// podRules are the rules about the runner's pod.
func podRules() []JobRule {
	return []JobRule{
		// render compares the sidecar's fields with its own, see comparePodTemplates.
		{Rule{"sidecar-missing", Error, "a pod without the native sidecar, the preStop drain or the exec wrapper: there is no runner, or it is killed during a step", "copy the sidecar, the preStop hook and the command from the output of `runnerctl render`"}, false, sidecarMissing},
		{Rule{"second-container", Error, "a container beside the runner's: the Job ends with its last container, so it never ends", "make it an init container with restartPolicy Always"}, true,
			func(j RunnerJob, report report) {
				runner, ok := j.runner()
				for _, c := range j.containers() {
					if ok && c.path[2] == "containers" && c.Container != runner.Container {
						report(c.Name, "an init container with restartPolicy Always: the Job ends with its last container", c.path...)
					}
				}
			}},
		{Rule{"shared-processes", Error, "a pod whose containers, or the node's pods, see each other's processes: they see the runner's secret, and `sidecar exec` is not process 1", "remove hostPID and shareProcessNamespace"}, true,
			func(j RunnerJob, report report) {
				if j.Template.Spec.HostPID {
					report("true", "false: other containers must not see the runner's secret", podPath("hostPID")...)
				}
				if s := j.Template.Spec.ShareProcessNamespace; s != nil && *s {
					report("true", "false: sidecar exec must be process 1, and other containers must not see the runner's secret", podPath("shareProcessNamespace")...)
				}
			}},
		{Rule{"liveness-probe", Error, "a liveness probe of the runner, the sidecar or the Docker daemon: a restarted container loses the step", "remove the probe"}, true,
			func(j RunnerJob, report report) {
				runner, _ := j.runner()
				sidecar, _ := j.sidecar()
				for _, c := range j.containers() {
					if c.LivenessProbe != nil && (c.Container == runner.Container || c.Container == sidecar.Container || IsDaemon(*c.Container)) {
						report(shown(c.LivenessProbe), "none: a restarted container loses the step", c.at("livenessProbe")...)
					}
				}
			}},
		{Rule{"identity-variables", Error, "a variable with the runner's identity that is set by hand: the runner would not be the one that the sidecar has registered", "remove the variable"}, true, identityVariables},
		{Rule{"sidecars-volumes", Error, "a container that mounts the sidecar's token or socket: builds could act as the sidecar", "use another volume"}, true, exclusiveMounts},
		{Rule{"service-account-token", Warning, "a service account other than bitbucket-runner, or automountServiceAccountToken that is not false: builds may get permissions in the cluster", "set serviceAccountName to bitbucket-runner, and automountServiceAccountToken to false"}, true, serviceAccount},
		{Rule{"architecture", Warning, "nodes of another architecture than the group's os says, by which Bitbucket chooses the runners of a step", "make the node selector kubernetes.io/arch and the trigger's `os` match"}, true,
			func(j RunnerJob, report report) {
				given, want := j.Template.Spec.NodeSelector[corev1.LabelArchStable], architectureOf(j.OS)
				switch path := podPath("nodeSelector", corev1.LabelArchStable); {
				case want == "" || given == want:
				case given == "":
					report("", "missing, want "+want+": it is the architecture that the runners have in Bitbucket", path...)
				default:
					report(given, want+": it is the architecture that the runners have in Bitbucket", path...)
				}
			}},
		{Rule{"runner-memory", Warning, "a runner without a memory limit: the kernel may kill it when the node runs out of memory", "set a memory request and limit of the runner container"}, false,
			func(j RunnerJob, report report) {
				// Kubernetes uses the limit as a missing request.
				if runner, ok := j.runner(); ok && runner.Resources.Limits.Memory().IsZero() {
					report("", "the runner has no memory limit", runner.at("resources")...)
				}
			}},
		{Rule{"implausible-size", Warning, "an amount of memory or processors that is probably a slip of the unit, such as 2M or 2048m of memory, or 1000 processors", "write memory as 2Gi or 512Mi, and processors as 1 or 500m"}, false, implausibleSize},
	}
}

func serviceAccount(j RunnerJob, report report) {
	if a := j.Template.Spec.AutomountServiceAccountToken; a == nil || *a {
		report(shown(a), "false: builds must not have a token", podPath("automountServiceAccountToken")...)
	}
	if name := j.Template.Spec.ServiceAccountName; name != ServiceAccount {
		report(name, ServiceAccount+": this account has no permissions that builds could use", podPath("serviceAccountName")...)
	}
}

func identityVariables(j RunnerJob, report report) {
	runner, ok := j.runner()
	if !ok {
		return
	}
	for _, v := range runner.Env {
		if IdentityVariable(v.Name) {
			report(v.Value, "no such variable: the sidecar sets the runner's identity", runner.at("env", item(v.Name))...)
		}
	}
}

func sidecarMissing(j RunnerJob, report report) {
	switch sidecar, ok := j.sidecar(); {
	case !ok:
		report("", "no init container runs `sidecar run`", podPath("initContainers")...)
	case sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != corev1.ContainerRestartPolicyAlways:
		report("", "the sidecar's restartPolicy is not Always", sidecar.path...)
	}
	runner, ok := j.runner()
	if !ok {
		report("", "no container is named runner", podPath("containers")...)
		return
	}
	if !CallsSidecar(runner.Command, "exec") {
		report("", "the runner's command is not wrapped in `sidecar exec --`", runner.at("command")...)
	}
	if l := runner.Lifecycle; l == nil || l.PreStop == nil || l.PreStop.Exec == nil || !CallsSidecar(l.PreStop.Exec.Command, "drain") {
		report("", "the runner has no preStop hook `sidecar drain`", runner.at("lifecycle")...)
	}
}

// exclusiveMounts reports other containers that mount the sidecar's token, or its socket,
// which only the runner may mount too.
func exclusiveMounts(j RunnerJob, report report) {
	sidecar, ok := j.sidecar()
	if !ok {
		return
	}
	runner, _ := j.runner()
	for _, c := range j.containers() {
		for _, mount := range c.VolumeMounts {
			own := slices.ContainsFunc(sidecar.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == mount.Name })
			if own && c.Container != sidecar.Container && (c.Container != runner.Container || j.hasToken(mount.Name)) {
				report(mount.Name, "another volume: this one is the sidecar's", c.at("volumeMounts", item(mount.MountPath))...)
			}
		}
	}
}

// hasToken reports whether a volume has the sidecar's token.
func (j *RunnerJob) hasToken(volume string) bool {
	v := find(j.Template.Spec.Volumes, volume, volumeName)
	return v != nil && v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
		return s.ServiceAccountToken != nil && s.ServiceAccountToken.Audience == runnerv1.Audience
	})
}

// Amounts beyond these bounds are probably slips of the unit.
const (
	leastMemory = 16 << 20
	mostMemory  = 4 << 40
	mostCPU     = 256
)

func implausibleSize(j RunnerJob, report report) {
	for _, c := range j.containers() {
		for _, kind := range []string{"requests", "limits"} {
			list := map[string]corev1.ResourceList{"requests": c.Resources.Requests, "limits": c.Resources.Limits}[kind]
			// Approximate, because an exponent in a manifest may be too large to compute with.
			if m := list.Memory(); !m.IsZero() && (m.AsApproximateFloat64() < leastMemory || m.AsApproximateFloat64() > mostMemory) {
				accepted := "an amount such as 512Mi or 2Gi"
				if strings.HasSuffix(m.String(), "m") {
					accepted += ": m means thousandths of a byte"
				}
				report(m.String(), accepted, c.at("resources", kind, "memory")...)
			}
			if p := list.Cpu(); p.AsApproximateFloat64() > mostCPU {
				report(p.String(), "an amount such as 1 or 500m, which is half a processor", c.at("resources", kind, "cpu")...)
			}
		}
	}
}
