{{- define "scaler.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The name of the Service, by which KEDA and the sidecars call the scaler, and of most
       other objects. The scaler gets it as --service, and names its Lease, its Secret and
       its ConfigMap after it. */}}
{{- define "scaler.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := include "scaler.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) | trunc 52 | trimSuffix "-" }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $full) }}
{{- fail (printf "%q, which follows from the name of the release, cannot be the name of a Service: set fullnameOverride to lower-case letters, digits and dashes, with a letter first" $full) }}
{{- end }}
{{- $full }}
{{- end }}
{{- end }}

{{- /* Where runner groups find the scaler: the default of `scalerAddress`. */}}
{{- define "scaler.address" -}}
{{ include "scaler.fullname" . }}.{{ .Release.Namespace }}.svc.cluster.local:9090
{{- end }}

{{- /* The namespaces whose runners the network policies are for: those of the groups that call
       this scaler, and those of the value. A list as JSON. */}}
{{- define "scaler.runnerNamespaces" -}}
{{- $root := . }}
{{- $usual := "bitbucket-runner" }}
{{- $namespaces := .Values.networkPolicy.runnerNamespaces | default list }}
{{- range .Values.groups }}
{{- $address := get . "scaler_address" | default (get . "scalerAddress") }}
{{- if or (not $address) (eq $address (include "scaler.address" $root)) }}
{{- $namespaces = append $namespaces (get . "namespace" | default $usual) }}
{{- end }}
{{- end }}
{{- $namespaces | default (list $usual) | uniq | sortAlpha | toJson }}
{{- end }}

{{- define "scaler.selectorLabels" -}}
app.kubernetes.io/name: {{ include "scaler.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* The labels of the pod of helm test, which nothing else selects. */}}
{{- define "scaler.testLabels" -}}
app.kubernetes.io/name: {{ include "scaler.name" . | trunc 58 }}-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* The labels of every object, other than those that select pods. */}}
{{- define "scaler.standardLabels" -}}
app.kubernetes.io/part-of: bitbucket-runner-scaler
app.kubernetes.io/version: {{ .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "scaler.labels" -}}
{{ include "scaler.selectorLabels" . }}
{{ include "scaler.standardLabels" . }}
{{- end }}

{{- /* The same with more labels, which win: (dict "root" $ "labels" LABELS). */}}
{{- define "scaler.labelsWith" -}}
{{ merge (dict) (.labels | default dict) (include "scaler.labels" .root | fromYaml) | toYaml }}
{{- end }}

{{- /* What has no namespace has ours in its name, so that each installation has its own. */}}
{{- define "scaler.clusterWide" -}}
{{ include "scaler.fullname" . }}-{{ .Release.Namespace }}
{{- end }}

{{- define "scaler.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "scaler.fullname" .) }}
{{- end }}

{{- define "scaler.image" -}}
{{- if not .Values.image.repository }}
{{- fail "image.repository is not set: set it to the repository to which you pushed the image, such as --set image.repository=registry.example.com/bitbucket-runner-scaler" }}
{{- end }}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The Secret of a credentials set: (dict "root" $ "name" NAME "set" SET). One that the
       chart makes has the usual name in the usual installation only, so that another in the
       same namespace has its own. */}}
{{- define "scaler.credentialsSecret" -}}
{{- $fullname := include "scaler.fullname" .root }}
{{- $prefix := "runner-bitbucket-credentials" }}
{{- if and .set (ne $fullname "bitbucket-runner-scaler") }}
{{- $prefix = printf "%s-credentials" $fullname }}
{{- end }}
{{- if get .set "existingSecret" }}{{ .set.existingSecret }}
{{- else if eq .name "default" }}{{ $prefix }}
{{- else }}{{ $prefix }}-{{ .name }}
{{- end }}
{{- end }}

{{- define "scaler.servingSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-serving" (include "scaler.fullname" .)) }}
{{- end }}

{{- define "scaler.trustMap" -}}
{{- if .Values.existingCABundle }}{{ .Values.existingCABundle }}{{ else if .Values.caBundle }}{{ include "scaler.fullname" . }}-trust{{ end }}
{{- end }}

{{- /* The flags of extraArgs. Those that the chart or a value gives are refused, in extraEnv too,
       and so are variables that a value sets: of two of a name the API server takes either.
       The schema knows which flags there are. */}}
{{- define "scaler.extraArgs" -}}
{{- $given := dict
  "cluster" "set cluster" "credentials-dir" "set credentials" "tls" "set tls.mode" "ca-bundle" "set caBundle or existingCABundle"
  "webhook-listen" "set webhook.enabled" "service" "set fullnameOverride" "namespace" "install into another namespace"
  "pod-name" "it is always the pod's own" "grpc-listen" "the Service needs port 9090" "http-listen" "the Service needs port 8080" }}
{{- $set := dict }}
{{- if .Values.proxy.url }}{{ $set = merge $set (dict "HTTPS_PROXY" "proxy.url" "NO_PROXY" "proxy.url") }}{{ end }}
{{- if .Values.traces.endpoint }}{{ $set = merge $set (dict "OTEL_EXPORTER_OTLP_ENDPOINT" "traces.endpoint" "OTEL_EXPORTER_OTLP_PROTOCOL" "traces.endpoint") }}{{ end }}
{{- if .Values.traces.headersSecret }}{{ $set = merge $set (dict "OTEL_EXPORTER_OTLP_HEADERS" "traces.headersSecret") }}{{ end }}
{{- range .Values.extraEnv }}
{{- $flag := trimPrefix "SCALER_" .name | lower | replace "_" "-" }}
{{- if and (hasPrefix "SCALER_" .name) (hasKey $given $flag) }}
{{- fail (printf "extraEnv: the chart itself gives --%s, which %s sets too: %s" $flag .name (get $given $flag)) }}
{{- else if has .name (list "POD_NAME" "POD_NAMESPACE") }}
{{- fail (printf "extraEnv: the chart itself sets %s: it is always the pod's own" .name) }}
{{- else if hasKey $set .name }}
{{- fail (printf "extraEnv: %s is set because of %s: leave one of them out" .name (get $set .name)) }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
{{- $flag := . | trimPrefix "--" | splitList "=" | first }}
{{- with get $given $flag }}
{{- fail (printf "extraArgs: the chart itself gives --%s: %s" $flag .) }}
{{- end }}
- {{ . | quote }}
{{- end }}
{{- end }}
