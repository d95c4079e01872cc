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

{{- /* Where the objects go: a chart around this one may have another namespace. */ -}}
{{- define "milvus-guard.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "milvus-guard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "milvus-guard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "milvus-guard.labels" -}}
{{ include "milvus-guard.labelsWith" (list . dict) }}
{{- end }}

{{- /* Labels of an object with some that only it has: list . {label: value}. The chart's own labels cannot be replaced. */ -}}
{{- define "milvus-guard.labelsWith" -}}
{{- $root := index . 0 }}
{{- $own := index . 1 }}
{{- with $root -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
{{ include "milvus-guard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: milvus-guard
{{- end }}
{{- with omit (merge (dict) $own $root.Values.commonLabels) "helm.sh/chart" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/part-of" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels of pods: those that select them, and the user's. */ -}}
{{- define "milvus-guard.podLabels" -}}
{{ include "milvus-guard.selectorLabels" . }}
{{- with omit (merge (dict) .Values.podLabels .Values.commonLabels) "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{ toYaml . }}
{{- end }}
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
{{- $global := .Values.global | default dict }}
{{- $repository := required "image.repository is not set. No public image of milvus-guard exists yet: build one with the Dockerfile of the repository, push it, and set image.repository=REGISTRY/milvus-guard" .Values.image.repository }}
{{- with $global.imageRegistry | default .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* Secrets with registry credentials, of this chart and of the chart around it. */ -}}
{{- define "milvus-guard.imagePullSecrets" -}}
{{- $global := .Values.global | default dict }}
{{- $secrets := list }}
{{- range concat ($global.imagePullSecrets | default list) .Values.imagePullSecrets .Values.image.pullSecrets }}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) }}
{{- end }}
{{- with $secrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* How the pods are on the network. */ -}}
{{- define "milvus-guard.network" -}}
{{- if .Values.hostNetwork }}
hostNetwork: true
{{- end }}
{{- with .Values.dnsPolicy | default (.Values.hostNetwork | ternary "ClusterFirstWithHostNet" "") }}
dnsPolicy: {{ . }}
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

{{- /* What sets the version label: webhook, policy, or nothing. */ -}}
{{- define "milvus-guard.labelBy" -}}
{{- $by := .Values.versionLabel.by }}
{{- $policies := semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version }}
{{- $holds := include "milvus-guard.holds" . }}
{{- if not .Values.versionLabel.enabled }}
{{- else if eq $by "auto" }}
{{- if and $policies (not $holds) }}policy{{ else }}webhook{{ end }}
{{- else }}
{{- if and (eq $by "policy") (not $policies) }}
{{- fail "versionLabel.by=policy needs Kubernetes 1.36 or later, which has MutatingAdmissionPolicy" }}
{{- end }}
{{- if and (eq $by "policy") $holds }}
{{- fail "versionLabel.by=policy needs hold.enabled=false: the webhook that pauses what is held sets the label too" }}
{{- end }}
{{- $by }}
{{- end }}
{{- end }}

{{- /* How an API server reaches a gate: dict "root" . "path" "/validate". */ -}}
{{- define "milvus-guard.clientConfig" -}}
service:
  name: {{ include "milvus-guard.fullname" .root }}
  namespace: {{ include "milvus-guard.namespace" .root }}
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
      {{- concat (list (include "milvus-guard.namespace" .root) "kube-system") .root.Values.excludedNamespaces | uniq | toYaml | nindent 6 }}
  {{- with .selector.matchExpressions }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
