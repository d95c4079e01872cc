{{- define "milvus-guard.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "milvus-guard.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "milvus-guard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "milvus-guard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "milvus-guard.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "milvus-guard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: milvus-guard
{{- end }}

{{- define "milvus-guard.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "milvus-guard.fullname" .) }}
{{- end }}

{{- define "milvus-guard.tlsSecret" -}}
{{- if and (eq .Values.certificates.mode "files") (not .Values.certificates.secretName) }}
{{- fail "certificates.secretName is needed with certificates.mode=files" }}
{{- end }}
{{- .Values.certificates.secretName | default (printf "%s-tls" (include "milvus-guard.fullname" .)) }}
{{- end }}

{{- define "milvus-guard.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Whether the cluster has ValidatingAdmissionPolicy. */ -}}
{{- define "milvus-guard.hasAdmissionPolicies" -}}
{{ if semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version }}yes{{ end }}
{{- end }}

{{- /* Whether the guard holds changes. It needs policies that confine its right, and the webhook that changes objects. */ -}}
{{- define "milvus-guard.holds" -}}
{{- $policies := include "milvus-guard.hasAdmissionPolicies" . }}
{{- if eq (toString .Values.hold.enabled) "auto" }}
{{- if and $policies .Values.versionLabel.enabled }}yes{{ end }}
{{- else if .Values.hold.enabled }}
{{- if not $policies }}
{{- fail "hold.enabled needs Kubernetes 1.30 or later: before it, nothing would confine the right to patch Deployments" }}
{{- end }}
{{- if not .Values.versionLabel.enabled }}
{{- fail "hold.enabled needs versionLabel.enabled: the webhook that sets the label also pauses what is held" }}
{{- end }}
{{- print "yes" }}
{{- end }}
{{- end }}

{{- /* How an API server reaches a gate: dict "root" . "path" "/validate". */ -}}
{{- define "milvus-guard.clientConfig" -}}
service:
  name: {{ include "milvus-guard.fullname" .root }}
  namespace: {{ .root.Release.Namespace }}
  path: {{ .path }}
  port: 443
{{- with .root.Values.certificates }}
{{- if eq .mode "files" }}
caBundle: {{ required "certificates.caBundle is needed with certificates.mode=files" .caBundle | b64enc }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The namespaces that a gate looks at: dict "root" . "selector" {}. */ -}}
{{- define "milvus-guard.namespaceSelector" -}}
{{- with .selector.matchLabels -}}
matchLabels:
  {{- toYaml . | nindent 2 }}
{{ end -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      {{- concat (list .root.Release.Namespace "kube-system") .root.Values.excludedNamespaces | uniq | toYaml | nindent 6 }}
  {{- with .selector.matchExpressions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
