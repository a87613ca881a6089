{{- /* Reading values of a group. A template that returns a mapping or a list returns JSON. */}}

{{- /* An object with Helm's labels: (list ROOT OBJECT KEEP). A namespace and its account
       are kept when their groups go, because runners that finish a step need them. */}}
{{- define "runners.labelled" -}}
{{- $root := index . 0 }}
{{- $object := index . 1 }}
{{- $labels := include "scaler.standardLabels" $root | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/instance" $root.Release.Name }}
{{- $_ := set $object.metadata "labels" (merge $object.metadata.labels $labels) }}
{{- if index . 2 }}
{{- $_ := set $object.metadata "annotations" (dict "helm.sh/resource-policy" "keep") }}
{{- end }}
{{- toYaml $object }}
{{- end }}

{{- /* Adds a fault: (list CONTEXT KEY ACCEPTED GIVEN), where GIVEN may be missing. */}}
{{- define "runners.fault" -}}
{{- $c := index . 0 }}
{{- $text := index . 2 }}
{{- if gt (len .) 3 }}
{{- $given := include "runners.text" (index . 3) }}
{{- $text = printf "%q, want %s" (gt (len $given) 64 | ternary (printf "%s..." (trunc 64 $given)) $given) $text }}
{{- end }}
{{- $_ := set $c.state "faults" (append $c.state.faults (printf "%s.%s: %s" $c.path (index . 1) $text)) }}
{{- end }}

{{- /* A scalar as text; numbers as in JSON, because the scaler takes no exponents. */}}
{{- define "runners.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* The keys of a mapping in snake_case, without those that are null: (list CONTEXT KEY MAPPING). */}}
{{- define "runners.keys" -}}
{{- $list := . }}
{{- $keys := dict }}
{{- range $given, $value := index . 2 | default dict }}
{{- $key := regexReplaceAll "([A-Z])" $given "_${1}" | lower }}
{{- if kindIs "invalid" $value }}
{{- else if hasKey $keys $key }}
{{- $_ := include "runners.fault" (list (index $list 0) (printf "%s%s" (index $list 1) $key) "given in two spellings, want one") }}
{{- else }}
{{- $_ := set $keys $key $value }}
{{- end }}
{{- end }}
{{- toJson $keys }}
{{- end }}

{{- /* A list of scalars as texts. */}}
{{- define "runners.texts" -}}
{{- $texts := list }}
{{- range . | default list }}
{{- if not (kindIs "invalid" .) }}
{{- $texts = append $texts (include "runners.text" .) }}
{{- end }}
{{- end }}
{{- toJson $texts }}
{{- end }}

{{- /* The nanoseconds of a duration, of which bare numbers are seconds. */}}
{{- define "runners.nanoseconds" -}}
{{- $text := include "runners.text" . | trim }}
{{- if regexMatch "^[0-9]+$" $text }}
{{- $text = printf "%ss" $text }}
{{- end }}
{{- $start := toDate "2006-01-02T15:04:05Z07:00" "1970-01-01T00:00:00Z" }}
{{- (mustDateModify $text $start).UnixNano }}
{{- end }}

{{- /* The number of a quantity, such as 0.5 of 500m. */}}
{{- define "runners.amount" -}}
{{- $text := include "runners.text" . }}
{{- $unit := regexFind "[a-zA-Z]+$" $text }}
{{- $units := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 }}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) }}
{{- end }}

{{- /* Whether a quantity is greater than another one: (list ONE OTHER). */}}
{{- define "runners.exceeds" -}}
{{- if gt (include "runners.amount" (index . 0) | float64) (include "runners.amount" (index . 1) | float64) }}true{{ end }}
{{- end }}

{{- /* Requests and limits: (list CONTEXT KEY GIVEN DEFAULTS). What is not given keeps its
       default, as far as a request does not exceed its limit. */}}
{{- define "runners.resources" -}}
{{- $list := . }}
{{- $given := include "runners.keys" (list (index . 0) (printf "%s." (index . 1)) (index . 2)) | fromJson }}
{{- $defaults := index . 3 }}
{{- $requests := dict }}
{{- $limits := dict }}
{{- range $name, $amount := get $given "requests" | default dict }}
{{- if not (kindIs "invalid" $amount) }}{{ $_ := set $requests $name (include "runners.text" $amount) }}{{ end }}
{{- end }}
{{- range $name, $amount := get $given "limits" | default dict }}
{{- if not (kindIs "invalid" $amount) }}{{ $_ := set $limits $name (include "runners.text" $amount) }}{{ end }}
{{- end }}
{{- range $name, $amount := get $defaults "limits" | default dict }}
{{- if not (hasKey $limits $name) }}
{{- $request := get $requests $name | default "0" }}
{{- $_ := set $limits $name (ternary $request $amount (eq "true" (include "runners.exceeds" (list $request $amount)))) }}
{{- end }}
{{- end }}
{{- range $name, $amount := get $defaults "requests" | default dict }}
{{- if not (hasKey $requests $name) }}
{{- $limit := get $limits $name | default $amount }}
{{- $_ := set $requests $name (ternary $limit $amount (eq "true" (include "runners.exceeds" (list $amount $limit)))) }}
{{- end }}
{{- end }}
{{- range $name, $request := $requests }}
{{- $limit := get $limits $name }}
{{- if and $limit (include "runners.exceeds" (list $request $limit)) }}
{{- $_ := include "runners.fault" (list (index $list 0) (printf "%s.requests.%s" (index $list 1) $name) (printf "at most the limit, which is %s" $limit) $request) }}
{{- end }}
{{- end }}
{{- $resources := dict }}
{{- with $requests }}{{ $_ := set $resources "requests" . }}{{ end }}
{{- with $limits }}{{ $_ := set $resources "limits" . }}{{ end }}
{{- toJson $resources }}
{{- end }}
