package jobtemplate

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"bitbucket-runner-scaler/jobfactory"
)

// What happens to a field of a job template. Any other text is for a field that is
// not carried over: it says why, or what replaces the field. unknownField is for a
// field that is not in the tables, such as one of a later Kubernetes.
const (
	byKey        = "\x00key"   // carried over as a group's own key, see SetDefaults
	byPatch      = "\x00patch" // carried over as a patch of the pod, see AddPatch
	unknownField = "the field is not known; if it is a field of the pod, a group's pod_template may set it"

	onePod     = "a Job has one pod, which is one runner"
	ownAccount = jobfactory.ServiceAccount + ", which has no permissions that builds could use"
	ownProbes  = "the pod has its own probes and hooks, which register and drain runners"
	byItself   = "Kubernetes sets it"
)

var jobFields = map[string]string{
	"template":                byKey,
	"parallelism":             onePod,
	"completions":             onePod,
	"completionMode":          onePod,
	"backoffLimit":            "a runner belongs to one pod; KEDA creates another Job",
	"backoffLimitPerIndex":    onePod,
	"maxFailedIndexes":        onePod,
	"podFailurePolicy":        "the Job of a failed pod fails, and KEDA creates another one",
	"successPolicy":           onePod,
	"activeDeadlineSeconds":   "it would kill a busy runner; a group's max_age replaces idle ones",
	"ttlSecondsAfterFinished": "KEDA keeps the last two finished Jobs and deletes the others",
	"selector":                byItself,
	"manualSelector":          byItself,
	"suspend":                 "KEDA only creates Jobs that are wanted now",
	"podReplacementPolicy":    "Failed, because a second pod of the Job would have another runner",
	"managedBy":               "Kubernetes' own controller manages the Jobs",
}

var podFields = map[string]string{ //nolint:gosec // imagePullSecrets is a field, not a secret
	"containers": byKey, "volumes": byKey, "nodeSelector": byKey, "tolerations": byKey, "affinity": byKey, "priorityClassName": byKey,
	"imagePullSecrets": byKey, "terminationGracePeriodSeconds": byKey, "initContainers": byKey,

	"hostAliases": byPatch, "dnsPolicy": byPatch, "dnsConfig": byPatch, "securityContext": byPatch, "runtimeClassName": byPatch,
	"schedulerName": byPatch, "topologySpreadConstraints": byPatch, "hostNetwork": byPatch, "hostname": byPatch, "subdomain": byPatch,
	"setHostnameAsFQDN": byPatch, "enableServiceLinks": byPatch, "preemptionPolicy": byPatch, "os": byPatch, "hostUsers": byPatch,
	"resourceClaims": byPatch, "resources": byPatch, "schedulingGates": byPatch, "hostnameOverride": byPatch,

	"restartPolicy":                "Never, because a runner's Job ends with its runner",
	"activeDeadlineSeconds":        "it would kill a busy runner; a group's max_age replaces idle ones",
	"serviceAccountName":           ownAccount,
	"serviceAccount":               ownAccount,
	"automountServiceAccountToken": "false, so that builds have no token for the cluster",
	"shareProcessNamespace":        "other containers would see the runner's secret",
	"hostPID":                      "other containers would see the runner's secret",
	"hostIPC":                      "builds would reach the node's processes",
	"nodeName":                     "it bypasses the scheduler; a group's node_selector selects nodes",
	"readinessGates":               "nothing waits for a runner's pod to be ready",
	"priority":                     byItself + " by the group's priority_class",
	"overhead":                     byItself + " by the runtime class",
	"ephemeralContainers":          "a template cannot have them; kubectl debug adds them to a pod",
	"workloadRef":                  "each runner is scheduled by itself",
	"schedulingGroup":              "each runner is scheduled by itself",
}

var containerFields = map[string]string{
	"name": byKey, "image": byKey, "env": byKey, "resources": byKey, "volumeMounts": byKey, "imagePullPolicy": byKey,

	"envFrom": byPatch, "workingDir": byPatch, "ports": byPatch, "volumeDevices": byPatch, "resizePolicy": byPatch, "securityContext": byPatch,
	"terminationMessagePath": byPatch, "terminationMessagePolicy": byPatch, "stdin": byPatch, "stdinOnce": byPatch, "tty": byPatch,

	"command":            "`sidecar exec` starts the runner with a group's entrypoint, and dockerd only listens on its socket",
	"args":               "`sidecar exec` starts the runner with a group's entrypoint, and dockerd only listens on its socket",
	"livenessProbe":      "a restarted container loses the step",
	"readinessProbe":     ownProbes,
	"startupProbe":       ownProbes,
	"lifecycle":          ownProbes,
	"restartPolicy":      ownProbes,
	"restartPolicyRules": ownProbes,
}

var metadataFields = map[string]string{"labels": byPatch, "annotations": byPatch}

var jobMetadataFields = map[string]string{
	"name":        "KEDA names the Jobs",
	"namespace":   "a group's namespace sets it",
	"labels":      "KEDA creates the Jobs; those of the pods are carried over",
	"annotations": "KEDA creates the Jobs; those of the pods are carried over",
}

// patch returns the fields of a value that are carried over as a patch, and adds a
// note for each field that is not carried over. It ignores a field that has the same
// value in own, which is the pod that is rendered anyway.
func (t *Template) patch(at string, handling map[string]string, value, own any) (map[string]any, error) {
	fields, err := fieldsOf(value)
	if err != nil {
		return nil, err
	}
	ownFields, err := fieldsOf(own)
	if err != nil {
		return nil, err
	}
	patch := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		how, known := handling[key]
		switch {
		case how == byKey || reflect.DeepEqual(fields[key], ownFields[key]):
		case how == byPatch:
			patch[key] = fields[key]
		case known:
			t.note(at+"."+key, how)
		default:
			t.note(at+"."+key, unknownField)
		}
	}
	return patch, nil
}

// fieldsOf returns the fields of a Kubernetes type that are set, as in JSON.
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
