{{- define "milvus-upgrade.fullname" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- define "milvus-upgrade.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: milvus-guard
{{- with omit .Values.commonLabels "helm.sh/chart" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "app.kubernetes.io/part-of" }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Where the Job and its objects go, but for the rights in the namespace of Milvus. */ -}}
{{- define "milvus-upgrade.namespace" -}}
{{ .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "milvus-upgrade.meta" -}}
labels:
  {{- include "milvus-upgrade.labels" . | nindent 2 }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "milvus-upgrade.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "milvus-upgrade.fullname" .) }}
{{- end }}

{{- define "milvus-upgrade.image" -}}
{{- $global := .Values.global | default dict }}
{{- $repository := required "image.repository is not set. No public image of milvus-guard exists yet: build one with the Dockerfile of the repository, push it, and set image.repository=REGISTRY/milvus-guard" .Values.image.repository }}
{{- with $global.imageRegistry | default .Values.image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* Secrets with registry credentials, of this chart and of the chart around it. */ -}}
{{- define "milvus-upgrade.imagePullSecrets" -}}
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

{{- /* What the verb needs in the namespace of the release. */ -}}
{{- define "milvus-upgrade.rulesInRelease" -}}
{{- $deployments := dict "check" "[list]" "migrate" "[get, list, watch, patch]" "upgrade" "[get, list, watch, patch, create, delete]" }}
{{- $configs := dict "check" "[list]" "migrate" "[list]" "upgrade" "[get, list, patch]" }}
- {apiGroups: [apps], resources: [deployments], verbs: {{ get $deployments .Values.verb }}}
{{- if eq .Values.verb "upgrade" }}
- {apiGroups: [apps], resources: [replicasets/scale], verbs: [patch]}
{{- end }}
- {apiGroups: [apps], resources: [statefulsets], verbs: [list]}
- {apiGroups: [""], resources: [configmaps], verbs: {{ get $configs .Values.verb }}}
- {apiGroups: [""], resources: [services, persistentvolumeclaims], verbs: [list]}
{{- if ne .Values.verb "check" }}
- {apiGroups: [""], resources: [pods], verbs: {{ if eq .Values.verb "upgrade" }}[list, watch, patch, delete]{{ else }}[list, watch]{{ end }}}
{{- end }}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list]}
- {apiGroups: [keda.sh], resources: [scaledobjects], verbs: {{ if eq .Values.verb "migrate" }}[list, patch]{{ else }}[list]{{ end }}}
{{- end }}

{{- /* What a run needs in its own namespace. */ -}}
{{- define "milvus-upgrade.rulesAtHome" -}}
- {apiGroups: [guard.milvus.io], resources: [upgraderuns], verbs: [get, list, create]}
- {apiGroups: [guard.milvus.io], resources: [upgraderuns/status], verbs: [patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, list, create, update]}
- {apiGroups: ["", events.k8s.io], resources: [events], verbs: [create, patch]}
{{- end }}

{{- /* How Milvus and etcd are reached: arguments, mounts and volumes of a pod. */ -}}
{{- define "milvus-upgrade.etcdArgs" -}}
{{- with .Values.etcd.addresses }}
- --etcd={{ join "," . }}
{{- end }}
{{- if .Values.etcd.secretName }}
- --etcd-credentials=/etc/milvus-guard/etcd
{{- end }}
{{- end }}

{{- define "milvus-upgrade.milvusArgs" -}}
{{- with .Values.milvus.address }}
- --milvus={{ . }}
{{- end }}
{{- with .Values.milvus.serverName }}
- --milvus-server-name={{ . }}
{{- end }}
{{- if .Values.milvus.secretName }}
- --milvus-credentials=/etc/milvus-guard/milvus
{{- end }}
{{- end }}

{{- define "milvus-upgrade.secretMounts" -}}
{{- if and (ne .Values.verb "check") .Values.etcd.secretName }}
- {name: etcd, mountPath: /etc/milvus-guard/etcd, readOnly: true}
{{- end }}
{{- if and (eq .Values.verb "upgrade") .Values.milvus.secretName }}
- {name: milvus, mountPath: /etc/milvus-guard/milvus, readOnly: true}
{{- end }}
{{- end }}

{{- define "milvus-upgrade.secretVolumes" -}}
{{- if and (ne .Values.verb "check") .Values.etcd.secretName }}
- name: etcd
  secret: {secretName: {{ .Values.etcd.secretName }}, defaultMode: 0440}
{{- end }}
{{- if and (eq .Values.verb "upgrade") .Values.milvus.secretName }}
- name: milvus
  secret: {secretName: {{ .Values.milvus.secretName }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- /* What a container may do. */ -}}
{{- define "milvus-upgrade.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Whether the state before an upgrade is recorded, for the test after it. */ -}}
{{- define "milvus-upgrade.records" -}}
{{- if and .Values.tests.enabled (eq .Values.verb "upgrade") }}true{{ end }}
{{- end }}

{{- /* ConfigMap with that state, in the namespace of Milvus. */ -}}
{{- define "milvus-upgrade.record" -}}
{{ include "milvus-upgrade.fullname" . }}-before
{{- end }}

{{- /* What `verify` is asked for, with the rights that the verb has. */ -}}
{{- define "milvus-upgrade.verifyArgs" -}}
- verify
- --instance={{ .Values.instance }}
- --namespace={{ .Values.namespace }}
- --run-namespace={{ include "milvus-upgrade.namespace" . }}
{{- include "milvus-upgrade.etcdArgs" . }}
{{- if eq .Values.verb "upgrade" }}
{{- include "milvus-upgrade.milvusArgs" . }}
{{- end }}
{{- end }}
