{{- /* One group of the value `groups`. The context is a dict with "root", the "parts" that
       are generated from the code of `runnerctl render`, the "state" of all groups, and the
       "path" and the "given" keys of this group. What is read of it is added. */}}
{{- define "runners.group" }}
{{- $c := . }}
{{- $g := include "runners.keys" (list . "" .given) | fromJson }}
{{- $_ := set . "g" $g }}
{{- $_ := set . "parameters" (include "runners.keys" (list . "parameters." (get $g "parameters")) | fromJson) }}
{{- $_ := set . "namespace" (get $g "namespace" | default $c.parts.shared.ServiceAccount.metadata.namespace) }}
{{- $_ := set . "name" (regexReplaceAll "[^a-z0-9]+" (get $g "name" | lower) "-" | trimAll "-") }}
{{- $_ := set . "metadata" dict }}
{{- $_ := include "runners.system" . }}
{{- $_ := include "runners.metadata" . }}
{{- $_ := set . "docker" (ne .os "linux.shell") }}
{{- if hasKey $g "docker" }}{{ $_ := set . "docker" (eq "true" (include "runners.text" $g.docker)) }}{{ end }}
{{- $_ := set . "tls" (ne "false" (include "runners.text" (get $g "tls"))) }}
{{- $_ := set . "address" (get $g "scaler_address" | default (include "scaler.address" .root)) }}
{{- $variant := printf "%s-%s" (ternary "docker" "alone" .docker) (ternary "tls" "plain" .tls) }}
{{- $_ := set . "job" (deepCopy (get .parts.scaledJobs $variant)) }}
{{- $_ := set . "pod" .job.spec.jobTargetRef.template.spec }}
{{- $_ := set . "polling" (.job.spec.pollingInterval | int64 | mul 1000000000) }}
{{- $_ := set . "grace" (.pod.terminationGracePeriodSeconds | int64 | mul 1000000000) }}
{{- if hasKey $g "polling_interval" }}{{ $_ := set . "polling" (include "runners.nanoseconds" $g.polling_interval | int64) }}{{ end }}
{{- if hasKey $g "grace_period" }}{{ $_ := set . "grace" (include "runners.nanoseconds" $g.grace_period | int64) }}{{ end }}
{{- $_ := include "runners.checkGroup" . }}
{{- $_ := include "runners.checkScaling" . }}
{{- $_ := include "runners.scaledJob" . }}
{{- $_ := include "runners.checkPod" . }}
{{- $_ := include "runners.patched" . }}
{{- $_ := set .state "scaledJobs" (append .state.scaledJobs .job) }}
{{- $hostPath := false }}
{{- range get $g "volumes" | default list }}{{ if hasKey . "hostPath" }}{{ $hostPath = true }}{{ end }}{{ end }}
{{- $uses := get .state.namespaces .namespace | default (dict "tls" false "privileged" false) }}
{{- $_ := set $uses "tls" (or .tls $uses.tls) }}
{{- $_ := set $uses "privileged" (or (ne .os "linux.shell") (hasKey $g "pod_template") $hostPath $uses.privileged) }}
{{- $_ := set .state.namespaces .namespace $uses }}
{{- end }}

{{- /* The OS and the architecture of the nodes, of which one may say the other. */}}
{{- define "runners.system" }}
{{- $architecture := get .g "architecture" }}
{{- $of := dict }}
{{- range $os, $of_ := .parts.architectures }}{{ $_ := set $of $of_ $os }}{{ end }}
{{- $os := get .g "os" }}
{{- $_ := set . "os" ($os | default (get $of $architecture) | default "linux") }}
{{- if and $architecture $os (ne $os "linux.shell") (ne $os (get $of $architecture)) }}
{{- $_ := include "runners.fault" (list . "os" (printf "%s, as architecture %s requires, or only one of the two keys" (get $of $architecture) $architecture) $os) }}
{{- end }}
{{- $_ := set . "architecture" (get .parts.architectures .os | default $architecture) }}
{{- if ne .os "linux" }}{{ $_ := set .metadata "os" .os }}{{ end }}
{{- end }}

{{- /* The metadata of the trigger. */}}
{{- define "runners.metadata" }}
{{- $c := . }}
{{- $m := .metadata }}
{{- range list "workspace" "repository" "strategy" "credentials" }}
{{- if hasKey $c.g . }}{{ $_ := set $m . (include "runners.text" (get $c.g .) | trim) }}{{ end }}
{{- end }}
{{- range list "labels" "repositories" }}
{{- $items := include "runners.texts" (get $c.g .) | fromJsonArray }}
{{- $key := . }}
{{- range $i, $item := $items }}
{{- if or (contains "," $item) (eq "" (trim $item)) }}
{{- $_ := include "runners.fault" (list $c (printf "%s[%d]" $key $i) "one item, without a comma" $item) }}
{{- end }}
{{- end }}
{{- if $items }}{{ $_ := set $m $key (join "," $items) }}{{ end }}
{{- end }}
{{- range $key, $value := .parameters }}
{{- $text := include "runners.text" $value | trim }}
{{- /* Decimal, as the scaler reads it: a template's int reads 010 as octal. */}}
{{- if has $key (list "min" "max" "spare" "count" "runners_count") }}{{ $text = regexReplaceAll "^0+([0-9])" $text "${1}" }}{{ end }}
{{- $_ := set $m (camelcase $key | untitle) $text }}
{{- end }}
{{- $_ := include "runners.mode" . }}
{{- $windows := list }}
{{- range $i, $window := get .g "schedules" | default list }}
{{- $read := dict }}
{{- range $key, $value := include "runners.keys" (list $c (printf "schedules[%d]." $i) $window) | fromJson }}
{{- $text := include "runners.text" $value }}
{{- if and (has $key (list "min" "max" "spare")) (regexMatch "^0[0-9]" $text) }}
{{- $_ := include "runners.fault" (list $c (printf "schedules[%d].%s" $i $key) "a whole number from 0 to 100" $text) }}
{{- end }}
{{- $_ := set $read $key (has $key (list "min" "max" "spare") | ternary (int $text) $text) }}
{{- end }}
{{- $windows = append $windows $read }}
{{- end }}
{{- $_ := set . "windows" $windows }}
{{- with $windows }}{{ $_ := set $m "schedules" (toJson .) }}{{ end }}
{{- $_ := set $m "scalerAddress" (get .g "scaler_address" | default (include "scaler.address" .root)) }}
{{- end }}

{{- /* The older form's type, the strategy manual, and runners_count. */}}
{{- define "runners.mode" }}
{{- $m := .metadata }}
{{- $type := get .g "type" }}
{{- $strategy := get $m "strategy" }}
{{- $fixed := has $strategy (list "manual" "fixed") }}
{{- if or (eq $strategy "manual") (and (eq $type "manual") (not $strategy)) }}{{ $_ := set $m "strategy" "fixed" }}{{ end }}
{{- if or (and (eq $type "manual") $strategy (not $fixed)) (and (eq $type "autoscaling") $fixed) }}
{{- $_ := include "runners.fault" (list . "type" (printf "the type of strategy %s, or only one of the two keys" $strategy) $type) }}
{{- else if hasKey $m "runnersCount" }}
{{- if hasKey $m "count" }}
{{- $_ := include "runners.fault" (list . "parameters.runners_count" "one of count and runners_count, not both" $m.runnersCount) }}
{{- else if ne (get $m "strategy") "fixed" }}
{{- $_ := include "runners.fault" (list . "parameters.runners_count" "type manual, or leave the key out" $m.runnersCount) }}
{{- else }}
{{- $_ := set $m "count" $m.runnersCount }}
{{- end }}
{{- else if and (or (eq $type "manual") (eq $strategy "manual")) (not (hasKey $m "count")) }}
{{- $_ := set $m "count" "1" }}
{{- end }}
{{- $_ := unset $m "runnersCount" }}
{{- end }}

{{- /* The ScaledJob: the generated one with the group's keys. */}}
{{- define "runners.scaledJob" }}
{{- $job := .job }}
{{- $_ := set $job.metadata "name" .name }}
{{- $_ := set $job.metadata "namespace" .namespace }}
{{- $max := get .metadata "count" }}
{{- if ne (get .metadata "strategy") "fixed" }}{{ $max = get .metadata "max" | default .parts.max }}{{ end }}
{{- $max = max 1 (int $max) }}
{{- range .windows }}{{ $max = max $max (get . "max" | default 1) }}{{ end }}
{{- $_ := set $job.spec "maxReplicaCount" $max }}
{{- $_ := set $job.spec "pollingInterval" (div .polling 1000000000) }}
{{- $trigger := first $job.spec.triggers }}
{{- $_ := set $trigger "metadata" (merge .metadata (pick $trigger.metadata "enableTLS")) }}
{{- $pod := .pod }}
{{- $grace := div .grace 1000000000 }}
{{- $_ := set $pod "terminationGracePeriodSeconds" $grace }}
{{- range $pod.volumes }}
{{- if hasKey . "projected" }}
{{- $token := (first .projected.sources).serviceAccountToken }}
{{- $_ := set $token "expirationSeconds" (max (int64 $token.expirationSeconds) (mul 5 $grace)) }}
{{- end }}
{{- end }}
{{- $_ := set $pod "volumes" (concat $pod.volumes (get .g "volumes" | default list)) }}
{{- $selector := dict }}
{{- range $key, $value := get .g "node_selector" | default dict }}
{{- if not (kindIs "invalid" $value) }}{{ $_ := set $selector $key $value }}{{ end }}
{{- end }}
{{- with .architecture }}{{ $_ := set $selector "kubernetes.io/arch" . }}{{ end }}
{{- $_ := set $pod "nodeSelector" $selector }}
{{- if not $selector }}{{ $_ := unset $pod "nodeSelector" }}{{ end }}
{{- range $key, $field := dict "tolerations" "tolerations" "affinity" "affinity" "priority_class" "priorityClassName" }}
{{- with get $.g $key }}{{ $_ := set $pod $field . }}{{ end }}
{{- end }}
{{- $secrets := list }}
{{- range include "runners.texts" (get .g "image_pull_secrets") | fromJsonArray }}{{ $secrets = append $secrets (dict "name" .) }}{{ end }}
{{- with $secrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end }}
{{- $_ := include "runners.containers" . }}
{{- end }}

{{- /* The containers: the sidecar is the first init container, the daemon the second. */}}
{{- define "runners.containers" }}
{{- $images := include "runners.keys" (list . "images." (get .g "images")) | fromJson }}
{{- $proxy := list }}
{{- $proxies := include "runners.keys" (list . "proxy." (get .g "proxy")) | fromJson }}
{{- range list (list "http" "HTTP_PROXY") (list "https" "HTTPS_PROXY") (list "no_proxy" "NO_PROXY") }}
{{- $variable := last . }}
{{- with get $proxies (first .) }}
{{- $proxy = concat $proxy (list (dict "name" $variable "value" .) (dict "name" (lower $variable) "value" .)) }}
{{- end }}
{{- end }}
{{- $sidecar := first .pod.initContainers }}
{{- $_ := set $sidecar "image" (get $images "sidecar" | default (include "scaler.image" .root)) }}
{{- $_ := set (first $sidecar.env) "value" .address }}
{{- $runner := first .pod.containers }}
{{- with get .g "entrypoint" }}{{ $_ := set $runner "command" (concat (initial $runner.command) (include "runners.texts" . | fromJsonArray)) }}{{ end }}
{{- $_ := set $runner "env" (concat $runner.env $proxy (get .g "env" | default list)) }}
{{- $_ := set $runner "volumeMounts" (concat $runner.volumeMounts (get .g "volume_mounts" | default list)) }}
{{- $_ := set $runner "resources" (include "runners.resources" (list . "resources" (get .g "resources") $runner.resources) | fromJson) }}
{{- $pulled := list $runner }}
{{- $resources := include "runners.resources" (list . "docker_resources" (get .g "docker_resources") dict) | fromJson }}
{{- if .docker }}
{{- $docker := last .pod.initContainers }}
{{- $_ := set $docker "args" (concat $docker.args (include "runners.texts" (get .g "docker_args") | fromJsonArray)) }}
{{- $_ := set $docker "env" (concat $docker.env $proxy) }}
{{- $_ := set $docker "volumeMounts" (concat $docker.volumeMounts (get .g "docker_volume_mounts" | default list)) }}
{{- with $resources }}{{ $_ := set $docker "resources" . }}{{ end }}
{{- $pulled = append $pulled $docker }}
{{- end }}
{{- range $container := $pulled }}
{{- $image := get $images .name | default .image }}
{{- if and (get $.g "image_mirror") (not (get $images .name)) }}
{{- $image = printf "%s/%s" (trimSuffix "/" $.g.image_mirror) (regexReplaceAll "^[^/]*\\.[^/]*/" $image "") }}
{{- if not (regexMatch "^[!-~]+$" $image) }}
{{- $_ := include "runners.fault" (list $ (printf "images.%s" .name) "an image reference such as registry/name:tag" $image) }}
{{- end }}
{{- end }}
{{- $_ := set . "image" $image }}
{{- with get $.g "image_pull_policy" }}{{ $_ := set $container "imagePullPolicy" . }}{{ end }}
{{- end }}
{{- end }}
