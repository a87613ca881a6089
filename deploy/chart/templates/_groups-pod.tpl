{{- /* Checks of what goes into the pod unchanged, and of a patch of it. */}}

{{- define "runners.checkPod" }}
{{- $c := . }}
{{- $g := .g }}
{{- $want := get .parts.architectures .os }}
{{- $selected := get (get $g "node_selector" | default dict) "kubernetes.io/arch" }}
{{- if and $selected $want (ne $selected $want) }}
{{- $_ := include "runners.fault" (list . "node_selector.kubernetes.io/arch" (printf "the group's architecture, which is %s" $want) $selected) }}
{{- else if and $selected (get $g "architecture") (ne $selected (get $g "architecture")) }}
{{- $_ := include "runners.fault" (list . "architecture" (printf "%s, as node_selector says, or only one of the two keys" $selected) (get $g "architecture")) }}
{{- end }}
{{- range $key, $value := get $g "node_selector" | default dict }}
{{- if not (and (regexMatch "^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$" $key) (regexMatch "^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$" ($value | default ""))) }}
{{- $_ := include "runners.fault" (list $c "node_selector" "labels of nodes" (printf "%s: %s" $key $value)) }}
{{- end }}
{{- end }}
{{- range $i, $t := get $g "tolerations" | default list }}
{{- $at := printf "tolerations[%d]" $i }}
{{- $operator := get $t "operator" }}
{{- if not (has $operator (list "" "Equal" "Exists")) }}{{ $_ := include "runners.fault" (list $c (printf "%s.operator" $at) "Equal or Exists" $operator) }}{{ end }}
{{- if not (has (get $t "effect") (list "" "NoSchedule" "PreferNoSchedule" "NoExecute")) }}{{ $_ := include "runners.fault" (list $c (printf "%s.effect" $at) "NoSchedule, PreferNoSchedule or NoExecute" $t.effect) }}{{ end }}
{{- if and (not (get $t "key")) (ne $operator "Exists") }}{{ $_ := include "runners.fault" (list $c (printf "%s.key" $at) "a taint's key, or operator Exists" "") }}{{ end }}
{{- if and (eq $operator "Exists") (get $t "value") }}{{ $_ := include "runners.fault" (list $c (printf "%s.value" $at) "no value with operator Exists" $t.value) }}{{ end }}
{{- end }}
{{- $name := "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$" }}
{{- with get $g "priority_class" }}
{{- if not (regexMatch $name .) }}{{ $_ := include "runners.fault" (list $c "priority_class" "the name of a PriorityClass" .) }}{{ end }}
{{- end }}
{{- range $i, $secret := include "runners.texts" (get $g "image_pull_secrets") | fromJsonArray }}
{{- if not (regexMatch $name $secret) }}{{ $_ := include "runners.fault" (list $c (printf "image_pull_secrets[%d]" $i) "the name of a Secret" $secret) }}{{ end }}
{{- end }}
{{- $seen := dict }}
{{- range $i, $variable := get $g "env" | default list }}
{{- $at := printf "env[%d].name" $i }}
{{- $given := get $variable "name" }}
{{- if or (not (regexMatch "^[-._A-Za-z][-._A-Za-z0-9]*$" $given)) (eq $given ".") (hasPrefix ".." $given) }}
{{- $_ := include "runners.fault" (list $c $at "the name of a variable" $given) }}
{{- else if or (has $given $c.parts.identity) (hasPrefix "SIDECAR_" $given) }}
{{- $_ := include "runners.fault" (list $c $at "another name: the sidecar sets this variable" $given) }}
{{- else if hasKey $seen $given }}
{{- $_ := include "runners.fault" (list $c $at "each name once" $given) }}
{{- end }}
{{- $_ := set $seen $given true }}
{{- end }}
{{- $_ := include "runners.checkVolumes" . }}
{{- end }}

{{- define "runners.checkVolumes" }}
{{- $c := . }}
{{- $own := list }}
{{- range (get .parts.scaledJobs "docker-tls").spec.jobTargetRef.template.spec.volumes }}{{ $own = append $own .name }}{{ end }}
{{- $known := list }}
{{- range $i, $volume := get .g "volumes" | default list }}
{{- $at := printf "volumes[%d].name" $i }}
{{- $name := get $volume "name" }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" $name) }}
{{- $_ := include "runners.fault" (list $c $at "a name of at most 63 lower-case letters, digits and dashes" $name) }}
{{- else if has $name $own }}
{{- $_ := include "runners.fault" (list $c $at (printf "another name than %s, which are the pod's own volumes" (join ", " $own)) $name) }}
{{- else if has $name $known }}
{{- $_ := include "runners.fault" (list $c $at "each name once" $name) }}
{{- end }}
{{- $known = append $known $name }}
{{- end }}
{{- $template := (get .parts.scaledJobs "docker-tls").spec.jobTargetRef.template.spec }}
{{- range list (list "volume_mounts" (first $template.containers)) (list "docker_volume_mounts" (last $template.initContainers)) }}
{{- $key := first . }}
{{- $paths := list }}
{{- range (last .).volumeMounts }}{{ $paths = append $paths .mountPath }}{{ end }}
{{- range $i, $mount := get $c.g $key | default list }}
{{- $at := printf "%s[%d]" $key $i }}
{{- $path := get $mount "mountPath" }}
{{- if not (has (get $mount "name") $known) }}
{{- $_ := include "runners.fault" (list $c (printf "%s.name" $at) "the name of one of the group's volumes" (get $mount "name")) }}
{{- end }}
{{- if or (not (hasPrefix "/" $path)) (contains ":" $path) }}
{{- $_ := include "runners.fault" (list $c (printf "%s.mountPath" $at) "an absolute path" $path) }}
{{- else }}
{{- $new := regexReplaceAll "^/var/run(/|$)" (clean $path) "/run$1" | trimSuffix "/" }}
{{- $hides := false }}
{{- range $paths }}
{{- $old := regexReplaceAll "^/var/run(/|$)" (clean .) "/run$1" | trimSuffix "/" }}
{{- if and (or (hasPrefix (printf "%s/" $old) (printf "%s/" $new)) (hasPrefix (printf "%s/" $new) (printf "%s/" $old))) (or (ne $new "/var/lib/docker") (not (hasPrefix "/var/lib/docker/" $old))) }}{{ $hides = true }}{{ end }}
{{- end }}
{{- if $hides }}
{{- $_ := include "runners.fault" (list $c (printf "%s.mountPath" $at) "a path that does not overlap with another mount of the container" $path) }}
{{- end }}
{{- end }}
{{- $paths = append $paths $path }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The pod template with the group's patch, which must not change what the scaler
       depends on. The sidecar stays the first init container. */}}
{{- define "runners.patched" }}
{{- with get .g "pod_template" }}
{{- $template := $.job.spec.jobTargetRef.template }}
{{- $merged := include "runners.merge" (dict "c" $ "original" $template "patch" . "path" "") | fromJson }}
{{- range list "metadata" "spec" }}{{ if not (hasKey $merged .) }}{{ $_ := set $merged . dict }}{{ end }}{{ end }}
{{- $sidecar := list }}
{{- $others := list }}
{{- range get $merged.spec "initContainers" | default list }}
{{- if eq (get . "name") "sidecar" }}{{ $sidecar = append $sidecar . }}{{ else }}{{ $others = append $others . }}{{ end }}
{{- end }}
{{- $_ := set $merged.spec "initContainers" (concat $sidecar $others) }}
{{- $_ := include "runners.checkPatch" (list $ $template $merged) }}
{{- $_ := set $.job.spec.jobTargetRef "template" $merged }}
{{- end }}
{{- end }}

{{- /* Reports a value of a pod template that a patch has changed: (list CONTEXT PATH GIVEN WANT WHY). */}}
{{- define "runners.same" }}
{{- $given := include "runners.text" (index . 2) }}
{{- $want := include "runners.text" (index . 3) }}
{{- if ne $given $want }}
{{- $_ := include "runners.fault" (list (index . 0) (printf "pod_template.%s" (index . 1)) (printf "%s: %s" $want (index . 4)) $given) }}
{{- end }}
{{- end }}

{{- /* The item of a list: (list ITEMS KEY VALUE). */}}
{{- define "runners.item" -}}
{{- $found := dict }}
{{- $key := index . 1 }}
{{- $value := index . 2 }}
{{- range index . 0 | default list }}{{ if eq (get . $key) $value }}{{ $found = . }}{{ end }}{{ end }}
{{- toJson $found }}
{{- end }}

{{- define "runners.checkPatch" }}
{{- $c := index . 0 }}
{{- $plain := index . 1 }}
{{- $merged := index . 2 }}
{{- range $key, $value := $plain.metadata.labels }}
{{- $_ := include "runners.same" (list $c (printf "metadata.labels.%s" $key) (get (get $merged.metadata "labels" | default dict) $key) $value "the label selects the pods") }}
{{- end }}
{{- range $key, $value := $plain.metadata.annotations }}
{{- $_ := include "runners.same" (list $c (printf "metadata.annotations.%s" $key) (get (get $merged.metadata "annotations" | default dict) $key) $value "else an autoscaler evicts runners") }}
{{- end }}
{{- range $key, $why := dict "terminationGracePeriodSeconds" "the group's grace_period sets it" "restartPolicy" "a runner's Job ends with its runner" "serviceAccountName" "this account has no permissions that builds could use" "automountServiceAccountToken" "builds must not have a token" }}
{{- $_ := include "runners.same" (list $c (printf "spec.%s" $key) (get $merged.spec $key) (get $plain.spec $key) $why) }}
{{- end }}
{{- with get $c.parts.architectures $c.os }}
{{- $_ := include "runners.same" (list $c "spec.nodeSelector.kubernetes.io/arch" (get (get $merged.spec "nodeSelector" | default dict) "kubernetes.io/arch") . "it is the architecture that the runners have in Bitbucket") }}
{{- end }}
{{- if hasKey $merged.spec "activeDeadlineSeconds" }}
{{- $_ := include "runners.fault" (list $c "pod_template.spec.activeDeadlineSeconds" "none: a deadline would kill a busy runner" $merged.spec.activeDeadlineSeconds) }}
{{- end }}
{{- range $key, $why := dict "hostPID" "other containers must not see the runner's secret" "shareProcessNamespace" "sidecar exec must be process 1, and other containers must not see the runner's secret" }}
{{- if get $merged.spec $key }}{{ $_ := include "runners.fault" (list $c (printf "pod_template.spec.%s" $key) (printf "false: %s" $why) true) }}{{ end }}
{{- end }}
{{- range $volume := (get $c.parts.scaledJobs "docker-tls").spec.jobTargetRef.template.spec.volumes }}
{{- $items := list }}
{{- range list $merged $plain }}{{ $items = append $items (include "runners.item" (list (get .spec "volumes") "name" $volume.name) | fromJson) }}{{ end }}
{{- $_ := include "runners.same" (list $c (printf "spec.volumes[%s]" $volume.name) (first $items) (last $items) "the sidecar, the daemon and the runner share it") }}
{{- end }}
{{- range $list := list "initContainers" "containers" }}
{{- range $want := get $plain.spec $list }}
{{- $_ := include "runners.checkContainer" (list $c (printf "spec.%s[%s]" $list $want.name) (include "runners.item" (list (get $merged.spec $list) "name" $want.name) | fromJson) $want) }}
{{- end }}
{{- range get $merged.spec $list | default list }}
{{- $name := get . "name" }}
{{- $at := printf "pod_template.spec.%s[%s]" $list $name }}
{{- if and (eq $list "containers") (ne $name "runner") }}{{ $_ := include "runners.fault" (list $c $at "an init container with restartPolicy Always: the Job ends with its last container" $name) }}{{ end }}
{{- range get . "volumeMounts" | default list }}
{{- if or (and (eq .name "token") (ne $name "sidecar")) (and (eq .name "bitbucket-runner-scaler") (not (has $name (list "sidecar" "runner")))) }}
{{- $_ := include "runners.fault" (list $c (printf "%s.volumeMounts[%s]" $at .mountPath) "another volume: this one is the sidecar's" .name) }}
{{- end }}
{{- end }}
{{- if and (eq $c.os "linux.shell") (get (get . "securityContext" | default dict) "privileged") }}{{ $_ := include "runners.fault" (list $c (printf "%s.securityContext.privileged" $at) "none with os linux.shell: its steps need no Docker daemon" true) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What a container needs for its task: (list CONTEXT PATH GIVEN WANT). */}}
{{- define "runners.checkContainer" }}
{{- $c := index . 0 }}
{{- $at := index . 1 }}
{{- $given := index . 2 }}
{{- $want := index . 3 }}
{{- if not $given }}
{{- $_ := include "runners.fault" (list $c (printf "pod_template.%s" $at) "missing, want the container kept") }}
{{- else }}
{{- $why := dict "command" "it starts the sidecar, `sidecar exec` or the daemon" "restartPolicy" "it makes the container a native sidecar" }}
{{- if eq $want.name "runner" }}
{{- $_ := set $why "lifecycle" "it drains the runner of a deleted pod" }}
{{- else }}
{{- $_ := set $why "args" "they belong to the container's command" }}
{{- end }}
{{- if eq $want.name "sidecar" }}{{ $_ := set $why "startupProbe" "the runner waits for its registration" }}{{ end }}
{{- range $key, $text := $why }}
{{- $_ := include "runners.same" (list $c (printf "%s.%s" $at $key) (get $given $key) (get $want $key) $text) }}
{{- end }}
{{- if hasKey $given "livenessProbe" }}
{{- $_ := include "runners.fault" (list $c (printf "pod_template.%s.livenessProbe" $at) "none: a restarted container loses the step" $given.livenessProbe) }}
{{- end }}
{{- range $want.env }}
{{- if not (hasSuffix "_PROXY" (upper .name)) }}
{{- $_ := include "runners.same" (list $c (printf "%s.env[%s]" $at .name) (include "runners.item" (list (get $given "env") "name" .name) | fromJson) . "the containers find each other by it") }}
{{- end }}
{{- end }}
{{- range $want.volumeMounts }}
{{- $_ := include "runners.same" (list $c (printf "%s.volumeMounts[%s]" $at .mountPath) (include "runners.item" (list (get $given "volumeMounts") "mountPath" .mountPath) | fromJson) . "the containers share it") }}
{{- end }}
{{- range get $given "env" | default list }}
{{- if has .name $c.parts.identity }}
{{- $_ := include "runners.fault" (list $c (printf "pod_template.%s.env[%s]" $at .name) "no such variable: the sidecar sets the runner's identity" (get . "value")) }}
{{- else if and (eq $want.name "runner") (hasPrefix "SIDECAR_" .name) (ne .name "SIDECAR_DIR") }}
{{- $_ := include "runners.fault" (list $c (printf "pod_template.%s.env[%s]" $at .name) "no such variable: it configures the sidecar" (get . "value")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
