{{- define "scaler.labels" -}}
app.kubernetes.io/name: bitbucket-runner-scaler
app.kubernetes.io/part-of: bitbucket-runner-scaler
{{- end }}

{{- /* The names are those of deploy/base, since the scaler knows its Lease and its
       Secrets by them; two installations are told apart by their namespaces, and what
       has none has the namespace in its name. */}}
{{- define "scaler.clusterWide" -}}
bitbucket-runner-scaler-{{ .Release.Namespace }}
{{- end }}

{{- /* The Secret of a credentials set: (dict "name" NAME "set" SET). */}}
{{- define "scaler.credentialsSecret" -}}
{{- if get .set "existingSecret" }}{{ .set.existingSecret }}
{{- else if eq .name "default" }}runner-bitbucket-credentials
{{- else }}runner-bitbucket-credentials-{{ .name }}
{{- end }}
{{- end }}

{{- define "scaler.trustMap" -}}
{{- if .Values.existingCABundle }}{{ .Values.existingCABundle }}{{ else if .Values.caBundle }}bitbucket-runner-scaler-trust{{ end }}
{{- end }}
