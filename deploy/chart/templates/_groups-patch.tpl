{{- /* Strategic merge patches, as Kubernetes merges them. The generated file says which
       lists are merged, and by which key. */}}

{{- /* A mapping with a patch: dict "c" CONTEXT "original" "patch" "path". */}}
{{- define "runners.merge" -}}
{{- $call := . }}
{{- $result := deepCopy .original }}
{{- $directive := get .patch "$patch" }}
{{- if or (eq $directive "delete") (eq $directive "replace") }}
{{- $result = dict }}
{{- end }}
{{- if ne $directive "delete" }}
{{- range $key, $value := omit .patch "$patch" }}
{{- $at := trimPrefix "." (printf "%s.%s" $call.path $key) }}
{{- $old := get $result $key }}
{{- if hasPrefix "$" $key }}
{{- $_ := include "runners.fault" (list $call.c (printf "pod_template.%s" $at) "not in the chart, want no directive other than $patch, or the output of `runnerctl render`") }}
{{- else if kindIs "invalid" $value }}
{{- $_ := unset $result $key }}
{{- else if kindIs "map" $value }}
{{- $_ := set $result $key (include "runners.merge" (dict "c" $call.c "original" (kindIs "map" $old | ternary $old dict) "patch" $value "path" $at) | fromJson) }}
{{- else if and (kindIs "slice" $value) (hasKey $call.c.parts.mergeKeys $at) }}
{{- $_ := set $result $key (include "runners.mergeList" (dict "c" $call.c "original" (kindIs "slice" $old | ternary $old list) "patch" $value "path" $at "key" (get $call.c.parts.mergeKeys $at)) | fromJsonArray) }}
{{- else }}
{{- $_ := set $result $key $value }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $result }}
{{- end }}

{{- /* A list whose items have a key, with a patch: the same dict with "key". Items of the
       patch have its order. The others stand before those that followed them. Without an
       original, items with the same key are all kept, such as a port for TCP and for UDP. */}}
{{- define "runners.mergeList" -}}
{{- $call := . }}
{{- $gone := dict }}
{{- $merged := dict }}
{{- $patched := list }}
{{- $added := list }}
{{- $original := .original }}
{{- range .patch }}
{{- if eq (get . "$patch") "replace" }}{{ $original = list }}{{ end }}
{{- if eq (get . "$patch") "delete" }}{{ $_ := set $gone (include "runners.text" (get . $call.key)) true }}{{ end }}
{{- end }}
{{- $places := dict }}
{{- range $i, $item := $original }}
{{- $name := include "runners.text" (get $item $call.key) }}
{{- if not (hasKey $gone $name) }}{{ $_ := set $places $name $i }}{{ $_ := set $merged $name $item }}{{ end }}
{{- end }}
{{- range .patch }}
{{- $name := include "runners.text" (get . $call.key) }}
{{- if hasKey . "$patch" }}
{{- else if not (hasKey . $call.key) }}
{{- $_ := include "runners.fault" (list $call.c (printf "pod_template.%s" $call.path) (printf "want a strategic merge patch: an item has no %s" $call.key)) }}
{{- else }}
{{- $_ := set $merged $name (include "runners.merge" (dict "c" $call.c "original" (get $merged $name | default dict) "patch" . "path" $call.path) | fromJson) }}
{{- if not $call.original }}
{{- $added = append $added (include "runners.merge" (dict "c" $call.c "original" dict "patch" . "path" $call.path) | fromJson) }}
{{- else if not (has $name $patched) }}{{ $patched = append $patched $name }}{{ end }}
{{- end }}
{{- end }}
{{- $rest := list }}
{{- range $original }}
{{- $name := include "runners.text" (get . $call.key) }}
{{- if and (hasKey $places $name) (not (has $name $patched)) }}{{ $rest = append $rest $name }}{{ end }}
{{- end }}
{{- $order := list }}
{{- range $name := $patched }}
{{- if hasKey $places $name }}
{{- range $rest }}
{{- if and (lt (get $places .) (get $places $name)) (not (has . $order)) }}{{ $order = append $order . }}{{ end }}
{{- end }}
{{- end }}
{{- $order = append $order $name }}
{{- end }}
{{- $items := $added }}
{{- range concat $order $rest | uniq }}
{{- $items = append $items (get $merged .) }}
{{- end }}
{{- toJson $items }}
{{- end }}
