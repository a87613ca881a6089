{{- /* What the schema of the values cannot say, in the words of `runnerctl render`. What is
       not checked here is found by `helm template ... | runnerctl lint -`. */}}

{{- define "runners.checkGroup" }}
{{- $c := . }}
{{- $g := .g }}
{{- $name := get $g "name" }}
{{- if not (regexMatch "^[ -~]*$" $name) }}
{{- $_ := include "runners.fault" (list . "name" "ASCII characters: only `runnerctl render` makes a name of others" $name) }}
{{- else if or (not .name) (gt (len .name) 57) }}
{{- $_ := include "runners.fault" (list . "name" "a text with 1 to 57 letters and digits" $name) }}
{{- end }}
{{- $key := printf "%s/%s" .namespace .name }}
{{- if hasKey .state.taken $key }}
{{- $_ := include "runners.fault" (list . "name" (printf "another name: in namespace %s it is already the name of %s" .namespace (get .state.taken $key)) .name) }}
{{- else }}
{{- $_ := set .state.taken $key .path }}
{{- end }}
{{- if has .namespace (list .root.Release.Namespace "bitbucket-runner-scaler") }}
{{- $_ := include "runners.fault" (list . "namespace" "another namespace: this one is the control plane's, which has the credentials" .namespace) }}
{{- else if eq .namespace "bitbucket-runner-control-plane" }}
{{- $_ := include "runners.fault" (list . "namespace" "another namespace: this one is that of Atlassian's runners-autoscaler, which has the credentials" .namespace) }}
{{- else if has .namespace (list "kube-system" "kube-public" "kube-node-lease") }}
{{- $_ := include "runners.fault" (list . "namespace" "another namespace: this one is Kubernetes' own" .namespace) }}
{{- else if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" .namespace) }}
{{- $_ := include "runners.fault" (list . "namespace" "the name of a namespace: at most 63 lower-case letters, digits and dashes" .namespace) }}
{{- end }}
{{- if not (regexMatch "^(\\[[^\\] /]+\\]|[^: /]+):[^: /]+$" .address) }}
{{- $_ := include "runners.fault" (list . "scaler_address" "host:port" .address) }}
{{- end }}
{{- if or (lt .polling 1000000000) (gt .polling 3600000000000) (mod .polling 1000000000) }}
{{- $_ := include "runners.fault" (list . "polling_interval" "whole seconds from 1s to 1h" $g.polling_interval) }}
{{- end }}
{{- if or (lt .grace 0) (gt .grace 604800000000000) (mod .grace 1000000000) }}
{{- $_ := include "runners.fault" (list . "grace_period" "whole seconds from 0s to 168h" $g.grace_period) }}
{{- end }}
{{- if and (hasKey $g "entrypoint") (not (first (include "runners.texts" $g.entrypoint | fromJsonArray | default (list "")))) }}
{{- $_ := include "runners.fault" (list . "entrypoint" "a command and its arguments" "") }}
{{- end }}
{{- if and .docker (eq .os "linux.shell") }}
{{- $_ := include "runners.fault" (list . "docker" "false with os linux.shell: its steps run in the runner's container" "true") }}
{{- end }}
{{- range $i, $argument := include "runners.texts" (get $g "docker_args") | fromJsonArray }}
{{- if regexMatch "^(--host(=|$)|-H|--tls)" $argument }}
{{- $_ := include "runners.fault" (list $c (printf "docker_args[%d]" $i) "no host and no TLS: the daemon listens on its socket only" $argument) }}
{{- end }}
{{- end }}
{{- range $image, $given := get $g "images" | default dict }}
{{- if and (not (kindIs "invalid" $given)) (not (regexMatch "^[!-~]+$" $given)) }}
{{- $_ := include "runners.fault" (list $c (printf "images.%s" $image) "an image reference such as registry/name:tag" $given) }}
{{- end }}
{{- end }}
{{- $mirror := get $g "image_mirror" }}
{{- if or (contains "://" $mirror) (hasPrefix "/" $mirror) }}
{{- $_ := include "runners.fault" (list . "image_mirror" "a registry and a path within it, such as mirror.example.com/builds" $mirror) }}
{{- end }}
{{- range $key, $proxy := get $g "proxy" | default dict }}
{{- if kindIs "invalid" $proxy }}
{{- else if and (ne $key "no_proxy") (ne $key "noProxy") }}
{{- if regexMatch "^[a-z0-9]+://[^/]*@" $proxy }}
{{- $_ := include "runners.fault" (list $c (printf "proxy.%s" $key) "has credentials, want none: anyone who may read the ScaledJob could read them") }}
{{- else if not (regexMatch "^(http|https|socks5)://[^/ ]" $proxy) }}
{{- $_ := include "runners.fault" (list $c (printf "proxy.%s" $key) "a URL such as http://proxy.example.com:3128" $proxy) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What the scaler refuses of the trigger's metadata. */}}
{{- define "runners.checkScaling" }}
{{- $c := . }}
{{- $m := .metadata }}
{{- $strategy := get $m "strategy" | default "percentageRunnersIdle" }}
{{- $place := "^(\\{[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\\}|[A-Za-z0-9_.-]{1,128})$" }}
{{- range list "workspace" "repository" }}
{{- $given := get $m . }}
{{- if and $given (or (not (regexMatch $place $given)) (has $given (list "." ".."))) }}
{{- $_ := include "runners.fault" (list $c . "a slug, or a {uuid} in braces" $given) }}
{{- end }}
{{- end }}
{{- if not (get $m "workspace") }}
{{- $_ := include "runners.fault" (list . "workspace" "missing or empty, want the workspace's slug or {uuid}") }}
{{- end }}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" (get $m "credentials" | default "default")) }}
{{- $_ := include "runners.fault" (list . "credentials" "a name of lower-case letters, digits and dashes, at most 63" $m.credentials) }}
{{- end }}
{{- $_ := include "runners.checkCredentials" . }}
{{- $_ := include "runners.checkLabels" . }}
{{- range list "cool_down" "max_age" "look_ahead" }}
{{- if hasKey $c.parameters . }}
{{- $given := get $c.parameters . }}
{{- if gt (include "runners.nanoseconds" $given | int64) 2592000000000000 }}
{{- $_ := include "runners.fault" (list $c (printf "parameters.%s" .) "a duration such as 300s, 5m or 24h, or bare seconds, at most 720h" $given) }}
{{- end }}
{{- end }}
{{- end }}
{{- if ne $strategy "queuedSteps" }}
{{- if get .parameters "look_ahead" }}
{{- if gt (include "runners.nanoseconds" .parameters.look_ahead | int64) 0 }}
{{- $_ := include "runners.fault" (list . "parameters.look_ahead" "only with strategy queuedSteps" .parameters.look_ahead) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (hasKey $m "repositories") (or (ne $strategy "queuedSteps") (hasKey $m "repository")) }}
{{- $_ := include "runners.fault" (list . "repositories" "only with strategy queuedSteps in a workspace" $m.repositories) }}
{{- end }}
{{- range splitList "," (get $m "repositories") }}
{{- if and (trim .) (or (not (regexMatch $place (trim .))) (has (trim .) (list "." ".."))) }}
{{- $_ := include "runners.fault" (list $c "repositories" "slugs or {uuid}s, comma separated" .) }}
{{- end }}
{{- end }}
{{- if eq $strategy "fixed" }}
{{- $_ := include "runners.checkFixed" . }}
{{- else }}
{{- $_ := include "runners.checkDemand" . }}
{{- end }}
{{- end }}

{{- /* The scaler of this release has the credentials sets of its values. */}}
{{- define "runners.checkCredentials" }}
{{- $name := get .metadata "credentials" | default "default" }}
{{- $sets := .root.Values.credentials }}
{{- if hasKey .g "scaler_address" }}
{{- else if not (hasKey $sets $name) }}
{{- $_ := include "runners.fault" (list . "credentials" (printf "a set of the value credentials, which has %s" (keys $sets | sortAlpha | join ", ")) $name) }}
{{- else }}
{{- $served := get (get $sets $name | default dict) "namespaces" }}
{{- if and $served (not (has .namespace $served)) (not (has "*" $served)) }}
{{- $_ := include "runners.fault" (list . "namespace" (printf "a namespace that may use the credentials: credentials.%s.namespaces has %s" $name (join ", " $served)) .namespace) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "runners.checkLabels" }}
{{- $c := . }}
{{- $own := list }}
{{- range include "runners.texts" (get .g "labels") | fromJsonArray }}
{{- $label := trim . }}
{{- if or (eq $label "") (eq $label "self.hosted") (eq $label $c.os) (contains "," $label) }}
{{- else if or (not (regexMatch "^[a-z0-9.]+$" $label)) (gt (len $label) 50) }}
{{- $_ := include "runners.fault" (list $c "labels" "lower-case letters, digits and dots, at most 50" $label) }}
{{- else if has $label (list "linux" "linux.arm64" "linux.shell" "macos" "windows") }}
{{- $_ := include "runners.fault" (list $c "labels" (printf "the label of the group's os, which is %s, or none" $c.os) $label) }}
{{- else if hasPrefix "keda." $label }}
{{- $_ := include "runners.fault" (list $c "labels" "no label that begins with keda., which is reserved for the scaler" $label) }}
{{- else }}
{{- $own = append $own $label | uniq }}
{{- end }}
{{- end }}
{{- $given := get .metadata "labels" }}
{{- if gt (len $own) 9 }}
{{- $_ := include "runners.fault" (list . "labels" (printf "at most 9 custom labels, of which there are %d: Bitbucket allows 10, and the scaler adds one" (len $own)) $given) }}
{{- else if not $given }}
{{- $_ := include "runners.fault" (list . "labels" "missing, want 1 to 9 custom labels, comma separated") }}
{{- else if regexMatch "^(self\\.hosted|linux|linux\\.arm64|linux\\.shell|,)*$" $given }}
{{- if not $own }}{{ $_ := include "runners.fault" (list . "labels" "a custom label too: every runner has these" $given) }}{{ end }}
{{- end }}
{{- end }}

{{- define "runners.checkFixed" }}
{{- $c := . }}
{{- range list "min" "max" "spare" "scale_up_threshold" "scale_down_threshold" "scale_up_multiplier" "scale_down_multiplier" }}
{{- if hasKey $c.parameters . }}
{{- $_ := include "runners.fault" (list $c (printf "parameters.%s" .) "nothing: strategy fixed takes only count" (get $c.parameters .)) }}
{{- end }}
{{- end }}
{{- if not (hasKey .metadata "count") }}
{{- $_ := include "runners.fault" (list . "parameters.count" "missing, want 0 to 100 with strategy fixed") }}
{{- else if gt (int .metadata.count) 100 }}
{{- $_ := include "runners.fault" (list . "parameters.count" "a whole number from 0 to 100" .metadata.count) }}
{{- end }}
{{- if .windows }}
{{- $_ := include "runners.fault" (list . "schedules" "no schedules: strategy fixed takes only count") }}
{{- end }}
{{- end }}

{{- define "runners.checkDemand" }}
{{- $c := . }}
{{- $m := .metadata }}
{{- $queued := eq (get $m "strategy") "queuedSteps" }}
{{- if hasKey $m "count" }}
{{- $_ := include "runners.fault" (list . "parameters.count" "only with strategy fixed" $m.count) }}
{{- end }}
{{- range list "min" "max" "spare" }}
{{- if gt (get $m . | int) 100 }}
{{- $_ := include "runners.fault" (list $c (printf "parameters.%s" .) "a whole number from 0 to 100" (get $m .)) }}
{{- end }}
{{- end }}
{{- $none := "at least 1, or strategy queuedSteps: without a runner nothing else would ever ask for one, and a step that finds no runner online fails at once" }}
{{- $min := get $m "min" | default "1" | int }}
{{- $max := get $m "max" | default .parts.max | int }}
{{- if and (eq $min 0) (not $queued) }}{{ $_ := include "runners.fault" (list . "parameters.min" $none "0") }}{{ end }}
{{- if eq $max 0 }}
{{- $_ := include "runners.fault" (list . "parameters.max" "at least 1" "0") }}
{{- else if gt $min $max }}
{{- $_ := include "runners.fault" (list . "parameters.min" (printf "at most max, which is %d" $max) (toString $min)) }}
{{- end }}
{{- $up := get $m "scaleUpThreshold" | default "0.5" }}
{{- $down := get $m "scaleDownThreshold" | default "0.2" }}
{{- if or (le (float64 $up) 0.0) (gt (float64 $up) 1.0) }}{{ $_ := include "runners.fault" (list . "parameters.scale_up_threshold" "a decimal above 0, at most 1" $up) }}{{ end }}
{{- if or (le (float64 $down) 0.0) (ge (float64 $down) 1.0) }}
{{- $_ := include "runners.fault" (list . "parameters.scale_down_threshold" "a decimal above 0, below 1" $down) }}
{{- else if ge (float64 $down) (float64 $up) }}
{{- $_ := include "runners.fault" (list . "parameters.scale_down_threshold" (printf "less than scaleUpThreshold, which is %s" $up) $down) }}
{{- end }}
{{- $factor := get $m "scaleUpMultiplier" | default "1.5" }}
{{- if or (le (float64 $factor) 1.0) (gt (float64 $factor) 100.0) }}{{ $_ := include "runners.fault" (list . "parameters.scale_up_multiplier" "a decimal above 1, at most 100" $factor) }}{{ end }}
{{- $factor := get $m "scaleDownMultiplier" | default "0.5" }}
{{- if or (le (float64 $factor) 0.0) (ge (float64 $factor) 1.0) }}{{ $_ := include "runners.fault" (list . "parameters.scale_down_multiplier" "a decimal above 0, below 1" $factor) }}{{ end }}
{{- range $i, $window := .windows }}
{{- $min := hasKey $window "min" | ternary (get $window "min") $min }}
{{- $max := hasKey $window "max" | ternary (get $window "max") $max }}
{{- $at := printf "schedules[%d]" $i }}
{{- if not (or (hasKey $window "min") (hasKey $window "max") (hasKey $window "spare")) }}
{{- $_ := include "runners.fault" (list $c $at "min, max or spare is missing: the window would change nothing") }}
{{- else if eq (int $max) 0 }}
{{- $_ := include "runners.fault" (list $c (printf "%s.max" $at) "at least 1" "0") }}
{{- else if gt (int $min) (int $max) }}
{{- $_ := include "runners.fault" (list $c $at "min at most max, of which one may be that of the group" (printf "min %d, max %d" (int $min) (int $max))) }}
{{- else if and (eq (int $min) 0) (not $queued) }}
{{- $_ := include "runners.fault" (list $c (printf "%s.min" $at) $none "0") }}
{{- end }}
{{- end }}
{{- end }}
