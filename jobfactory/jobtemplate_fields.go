package jobfactory

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// What becomes of a field of a job template. A text says what there is instead of
// a field that is not carried over, and so does otherFate for one that is not in
// the tables, such as a later Kubernetes' own.
const (
	byKey     = "\x00key"     // carried over, as a group's own keys can be: see apply
	byOverlay = "\x00overlay" // carried over as a patch of the pod
	otherFate = "it is not known here; a group's pod_template may say it, as far as it is the pod's"

	onePod     = "a Job has one pod, which is one runner"
	ownAccount = ServiceAccount + ", which has no rights, so that builds have none"
	ownProbes  = "the pod has its own probes and hooks, by which runners are registered and drained"
	byItself   = "Kubernetes sets it itself"
)

var jobFates = map[string]string{
	"template":                byKey,
	"parallelism":             onePod,
	"completions":             onePod,
	"completionMode":          onePod,
	"backoffLimit":            "a runner belongs to one pod; KEDA launches another Job",
	"backoffLimitPerIndex":    onePod,
	"maxFailedIndexes":        onePod,
	"podFailurePolicy":        "a failed pod's Job has failed, and KEDA launches another",
	"successPolicy":           onePod,
	"activeDeadlineSeconds":   "it would kill a busy runner; a group's max_age replaces idle ones",
	"ttlSecondsAfterFinished": "KEDA keeps the last two finished Jobs and deletes the others",
	"selector":                byItself,
	"manualSelector":          byItself,
	"suspend":                 "KEDA launches no Job that is not wanted now",
	"podReplacementPolicy":    "Failed: a second pod of the Job would be another runner's",
	"managedBy":               "Kubernetes' own controller runs the Jobs",
}

var podFates = map[string]string{ //nolint:gosec // imagePullSecrets is a field, not one
	"containers": byKey, "volumes": byKey, "nodeSelector": byKey, "tolerations": byKey, "affinity": byKey, "priorityClassName": byKey,
	"imagePullSecrets": byKey, "terminationGracePeriodSeconds": byKey, "initContainers": byKey,

	"hostAliases": byOverlay, "dnsPolicy": byOverlay, "dnsConfig": byOverlay, "securityContext": byOverlay, "runtimeClassName": byOverlay,
	"schedulerName": byOverlay, "topologySpreadConstraints": byOverlay, "hostNetwork": byOverlay, "hostname": byOverlay, "subdomain": byOverlay,
	"setHostnameAsFQDN": byOverlay, "enableServiceLinks": byOverlay, "preemptionPolicy": byOverlay, "os": byOverlay, "hostUsers": byOverlay,
	"resourceClaims": byOverlay, "resources": byOverlay, "schedulingGates": byOverlay, "hostnameOverride": byOverlay,

	"restartPolicy":                "Never; a runner's Job ends with its runner",
	"activeDeadlineSeconds":        "it would kill a busy runner; a group's max_age replaces idle ones",
	"serviceAccountName":           ownAccount,
	"serviceAccount":               ownAccount,
	"automountServiceAccountToken": "false, so that builds have no token of the cluster",
	"shareProcessNamespace":        "the runner's secret would be seen from other containers",
	"hostPID":                      "the runner's secret would be seen from other containers",
	"hostIPC":                      "builds would reach the node's processes",
	"nodeName":                     "it goes past the scheduler; a group's node_selector chooses nodes",
	"readinessGates":               "nothing waits for a runner's pod to be ready",
	"priority":                     byItself + " by the group's priority_class",
	"overhead":                     byItself + " by the runtime class",
	"ephemeralContainers":          "a template cannot have them; use kubectl debug",
	"workloadRef":                  "each runner is scheduled by itself",
	"schedulingGroup":              "each runner is scheduled by itself",
}

var containerFates = map[string]string{
	"name": byKey, "image": byKey, "env": byKey, "resources": byKey, "volumeMounts": byKey, "imagePullPolicy": byKey,

	"envFrom": byOverlay, "workingDir": byOverlay, "ports": byOverlay, "volumeDevices": byOverlay, "resizePolicy": byOverlay, "securityContext": byOverlay,
	"terminationMessagePath": byOverlay, "terminationMessagePolicy": byOverlay, "stdin": byOverlay, "stdinOnce": byOverlay, "tty": byOverlay,

	"command":            "`sidecar exec` starts the runner (a group's entrypoint says what), and dockerd listens on its socket alone",
	"args":               "`sidecar exec` starts the runner (a group's entrypoint says what), and dockerd listens on its socket alone",
	"livenessProbe":      "a restarted container loses the step",
	"readinessProbe":     ownProbes,
	"startupProbe":       ownProbes,
	"lifecycle":          ownProbes,
	"restartPolicy":      ownProbes,
	"restartPolicyRules": ownProbes,
}

var metadataFates = map[string]string{"labels": byOverlay, "annotations": byOverlay}

var jobMetadataFates = map[string]string{
	"name":        "KEDA names the Jobs",
	"namespace":   "a group's namespace says it",
	"labels":      "KEDA makes the Jobs; those of the pods are carried over",
	"annotations": "KEDA makes the Jobs; those of the pods are carried over",
}

// fates notes which fields of a value are not carried over, and gives those that
// are a patch's. A field that is as our own pod has it anyway is neither.
func (t *JobTemplate) fates(at string, table map[string]string, value, ours any) (map[string]any, error) {
	fields, err := fieldsOf(value)
	if err != nil {
		return nil, err
	}
	own, err := fieldsOf(ours)
	if err != nil {
		return nil, err
	}
	patch := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		fate, known := table[key]
		switch {
		case fate == byKey || reflect.DeepEqual(fields[key], own[key]):
		case fate == byOverlay:
			patch[key] = fields[key]
		case known:
			t.note(at+"."+key, fate)
		default:
			t.note(at+"."+key, otherFate)
		}
	}
	return patch, nil
}

// fieldsOf are the fields of a Kubernetes type that are set, as JSON has them.
func fieldsOf(value any) (map[string]any, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("read %T: %w", value, err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("read %T: %w", value, err)
	}
	maps.DeleteFunc(fields, func(_ string, field any) bool {
		object, ok := field.(map[string]any)
		return field == nil || ok && len(object) == 0
	})
	return fields, nil
}
