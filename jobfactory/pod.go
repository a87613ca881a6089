package jobfactory

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Names and paths that the pod, the sidecar and the registrar share.
const (
	// ServiceAccount is the runner pods' own. It has no permissions: it only exists for
	// the token that proves which pod a sidecar runs in.
	ServiceAccount = "bitbucket-runner"
	// SharedDir is the folder that the sidecar and the runner share.
	SharedDir = "/opt/bitbucket-runner-scaler"
	// TokenDir is the folder in which the sidecar finds its pod's token, in the file
	// "token", and the scaler's authority, in "ca.crt".
	TokenDir = "/var/run/secrets/bitbucket-runner-scaler" //nolint:gosec // a path, not a credential

	// TriggerAuthentication is the object through which KEDA reads the scaler's authority.
	TriggerAuthentication = "bitbucket-runner-scaler"

	// tokenSeconds is the minimum life of the sidecar's token, see tokenLife.
	tokenSeconds = 12 * 60 * 60
	// probeSeconds is how long a startup probe waits inside before it fails: the kubelet
	// writes a Warning Event for each failure, and no normal start takes that long.
	probeSeconds = 50
	// probeTimeout is longer, so that the probe itself says what is missing.
	probeTimeout = 60
	// startupTries let a Job wait a day for an unreachable Bitbucket, also with an earlier
	// build of the sidecar, whose probe does not wait inside but fails at once.
	startupTries = 24 * 60 * 60
	// daemonTries let a Docker daemon start on a slow disk, within some minutes.
	daemonTries = 6
	nonRoot     = 65532
)

// awaitDaemon is the script that waits for the Docker daemon, asking it twice per second.
const awaitDaemon = `for try in $(seq 80); do docker --host=unix:///var/run/docker.sock version >/dev/null 2>&1 && exit; sleep 0.5; done
exec docker --host=unix:///var/run/docker.sock version`

// Names of volumes and containers.
const (
	sharedVolume     = "bitbucket-runner-scaler"
	tokenVolume      = "token"
	tmpVolume        = "tmp"
	containersVolume = "docker-containers"
	runVolume        = "var-run"

	sidecarContainer = "sidecar"
	// DockerContainer is the Docker daemon, RunnerContainer the runner itself.
	DockerContainer = "docker"
	RunnerContainer = "runner"
)

// EvictionProtection returns the annotations that keep cluster-autoscaler and
// Karpenter from evicting a pod.
func EvictionProtection() map[string]string {
	return map[string]string{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
}

func podSpec(g RunnerGroup) corev1.PodSpec {
	selector := maps.Clone(g.NodeSelector)
	if selector == nil {
		selector = map[string]string{}
	}
	if architecture := architectureOf(g.Group.OS); architecture != "" {
		selector[corev1.LabelArchStable] = architecture
	}
	spec := corev1.PodSpec{
		RestartPolicy:                 corev1.RestartPolicyNever,
		ServiceAccountName:            ServiceAccount,
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		TerminationGracePeriodSeconds: ptr.To(int64(g.GracePeriod.Seconds())),
		NodeSelector:                  selector,
		Tolerations:                   g.Tolerations,
		Affinity:                      g.Affinity,
		PriorityClassName:             g.PriorityClass,
		ImagePullSecrets:              pullSecrets(g),
		InitContainers:                []corev1.Container{sidecar(g)},
		Containers:                    []corev1.Container{runner(g)},
		Volumes:                       append(volumes(g), g.Volumes...),
	}
	if g.Docker {
		spec.InitContainers = append(spec.InitContainers, docker(g))
	}
	return spec
}

func sidecar(g RunnerGroup) corev1.Container {
	return corev1.Container{
		Name:            sidecarContainer,
		Image:           g.Images.Sidecar,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/sidecar", "run"},
		RestartPolicy:   ptr.To(corev1.ContainerRestartPolicyAlways),
		Env:             sidecarEnv(g),
		StartupProbe:    probe(startupTries, "/sidecar", "ready"),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](nonRoot), RunAsGroup: ptr.To[int64](nonRoot),
			ReadOnlyRootFilesystem: ptr.To(true), AllowPrivilegeEscalation: ptr.To(false),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: sharedVolume, MountPath: SharedDir},
			{Name: tokenVolume, MountPath: TokenDir, ReadOnly: true},
		},
	}
}

func sidecarEnv(g RunnerGroup) []corev1.EnvVar {
	env := []corev1.EnvVar{
		{Name: "SIDECAR_SCALER_ADDRESS", Value: g.ScalerAddress},
		{Name: "SIDECAR_DIR", Value: SharedDir},
		// Not in the probe's command: an earlier build of the sidecar does not know the flag.
		{Name: "SIDECAR_WAIT", Value: fmt.Sprintf("%ds", probeSeconds)},
	}
	if !g.TLS {
		return append(env, corev1.EnvVar{Name: "SIDECAR_TLS", Value: "off"})
	}
	return append(env, corev1.EnvVar{Name: "SIDECAR_CA_FILE", Value: TokenDir + "/" + runnerv1.AuthorityKey})
}

func docker(g RunnerGroup) corev1.Container {
	return corev1.Container{
		Name:            DockerContainer,
		Image:           g.Images.Docker,
		ImagePullPolicy: g.PullPolicy,
		// With a complete command the image's entrypoint does not make the daemon listen
		// on the network, where any pod could control the privileged daemon.
		Args:            append([]string{"dockerd", "--host=unix:///var/run/docker.sock"}, g.DockerArgs...),
		RestartPolicy:   ptr.To(corev1.ContainerRestartPolicyAlways),
		Env:             append([]corev1.EnvVar{{Name: "DOCKER_TLS_CERTDIR", Value: ""}}, g.Proxy.env()...),
		StartupProbe:    probe(daemonTries, "sh", "-c", awaitDaemon),
		Resources:       g.DockerResources,
		SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)},
		VolumeMounts:    append(buildMounts(false), g.DockerVolumeMounts...),
	}
}

func runner(g RunnerGroup) corev1.Container {
	return corev1.Container{
		Name:            RunnerContainer,
		Image:           g.Images.Runner,
		ImagePullPolicy: g.PullPolicy,
		Command:         append([]string{SharedDir + "/sidecar", "exec", "--"}, g.Entrypoint...),
		// The runner of an evicted or deleted pod finishes its step and takes no new one.
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{SharedDir + "/sidecar", "drain"}}}},
		// `sidecar exec` fetches the runner's identity and secret, so they are not here.
		Env:          slices.Concat([]corev1.EnvVar{{Name: "SIDECAR_DIR", Value: SharedDir}}, g.Proxy.env(), g.Env),
		Resources:    g.Resources,
		VolumeMounts: slices.Concat(buildMounts(true), []corev1.VolumeMount{{Name: sharedVolume, MountPath: SharedDir}}, g.VolumeMounts),
	}
}

// probe returns a probe that runs a command which waits for what it probes.
func probe(tries int32, command ...string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: command}},
		PeriodSeconds: 1, TimeoutSeconds: probeTimeout, FailureThreshold: tries,
	}
}

func volumes(g RunnerGroup) []corev1.Volume {
	sources := []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
		Audience: runnerv1.Audience, ExpirationSeconds: ptr.To(tokenLife(g)), Path: "token",
	}}}
	if g.TLS {
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: runnerv1.AuthorityConfigMap},
			Items:                []corev1.KeyToPath{{Key: runnerv1.AuthorityKey, Path: runnerv1.AuthorityKey}},
		}})
	}
	empty := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	}
	return []corev1.Volume{
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}},
		empty(sharedVolume), empty(tmpVolume), empty(containersVolume), empty(runVolume),
	}
}

// tokenLife returns the life of the sidecar's token, in seconds. A fifth of it
// outlasts a drain: the kubelet does not renew the token of a terminating pod, and
// that of a running pod only after four fifths of its life
// (k8s.io/kubernetes/pkg/kubelet/token).
func tokenLife(g RunnerGroup) int64 {
	return max(tokenSeconds, 5*int64(g.GracePeriod.Seconds()))
}

func pullSecrets(g RunnerGroup) []corev1.LocalObjectReference {
	if len(g.PullSecrets) == 0 {
		return nil
	}
	secrets := make([]corev1.LocalObjectReference, 0, len(g.PullSecrets))
	for _, name := range g.PullSecrets {
		secrets = append(secrets, corev1.LocalObjectReference{Name: name})
	}
	return secrets
}

// env returns the proxy's variables in both spellings, because programs differ in
// which one they read.
func (p Proxy) env() []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, v := range []corev1.EnvVar{{Name: "HTTP_PROXY", Value: p.HTTP}, {Name: "HTTPS_PROXY", Value: p.HTTPS}, {Name: "NO_PROXY", Value: p.None}} {
		if v.Value != "" {
			env = append(env, v, corev1.EnvVar{Name: strings.ToLower(v.Name), Value: v.Value})
		}
	}
	return env
}
