{{- define "milvus-upgrade.fullname" -}}
{{- $default := .Release.Name }}
{{- if .Values.hooks.enabled }}
{{- $default = printf "%s-upgrade" (.Release.Name | trunc 37 | trimSuffix "-") }}
{{- end }}
{{- .Values.fullnameOverride | default $default | trunc 45 | trimSuffix "-" }}
{{- end }}

{{- /* The Milvus that is upgraded: with hooks that of this very release. */ -}}
{{- define "milvus-upgrade.instance" -}}
{{- if .Values.hooks.enabled }}
{{- if ne .Values.verb "upgrade" }}
{{- fail "hooks.enabled needs verb: upgrade" }}
{{- end }}
{{- if not (has .Values.instance (list "" .Release.Name)) }}
{{- fail (printf "hooks.enabled upgrades the Milvus of this release, which is %s: leave instance empty" .Release.Name) }}
{{- end }}
{{- .Release.Name }}
{{- else }}
{{- required "instance is not set: the name of the Milvus release" .Values.instance }}
{{- end }}
{{- end }}

{{- define "milvus-upgrade.milvusNamespace" -}}
{{- if .Values.hooks.enabled }}
{{- if not (has .Values.namespace (list "" .Release.Namespace)) }}
{{- fail (printf "hooks.enabled upgrades the Milvus of this release, which is in namespace %s: leave namespace empty" .Release.Namespace) }}
{{- end }}
{{- .Release.Namespace }}
{{- else }}
{{- required "namespace is not set: the namespace of the Milvus release" .Values.namespace }}
{{- end }}
{{- end }}

{{- /* When Helm runs a Job: at the moments of hooks, or (empty) with the other objects. */ -}}
{{- define "milvus-upgrade.moments" -}}
{{- if .Values.hooks.enabled }}["pre-upgrade", "post-upgrade", "post-rollback"]{{ else }}[""]{{ end }}
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

{{- /* Labels and annotations; those of a hook where there are hooks. Helm deletes hooks that succeeded as soon as a later one fails or
       takes too long, and the Job would lose its rights: so these stay. */ -}}
{{- define "milvus-upgrade.meta" -}}
{{- $moments := .Values.hooks.enabled | ternary "pre-upgrade,post-upgrade,post-rollback" "" }}
{{- include "milvus-upgrade.metaOf" (list . $moments -10 "before-hook-creation") }}
{{- end }}

{{- /* The same, given: the context, the moments of the hook, its weight, and when it is deleted. */ -}}
{{- define "milvus-upgrade.metaOf" -}}
{{- $ := index . 0 }}
{{- $weight := index . 2 | toString }}
{{- $deleted := index . 3 }}
{{- $hook := dict }}
{{- with index . 1 }}
{{- $hook = dict "helm.sh/hook" . "helm.sh/hook-weight" $weight "helm.sh/hook-delete-policy" $deleted }}
{{- end -}}
labels:
  {{- include "milvus-upgrade.labels" $ | nindent 2 }}
{{- with merge $hook $.Values.annotations }}
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

{{- /* What hooks need in addition: the records of Helm from the last revisions on, and what the new chart does not have any more. */ -}}
{{- define "milvus-upgrade.rulesOfHooks" -}}
{{- if .Values.hooks.enabled }}
{{- $records := list }}
{{- range $revision := untilStep (max 1 (sub .Release.Revision 9) | int) (add1 .Release.Revision | int) 1 }}
{{- $records = append $records (printf "sh.helm.release.v1.%s.v%d" $.Release.Name $revision) }}
{{- end }}
- {apiGroups: [""], resources: [secrets], resourceNames: {{ toJson $records }}, verbs: [get]}
- {apiGroups: [""], resources: [configmaps, services, serviceaccounts], verbs: [get, patch, delete]}
{{- end }}
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
- --instance={{ include "milvus-upgrade.instance" . }}
- --namespace={{ include "milvus-upgrade.milvusNamespace" . }}
- --run-namespace={{ include "milvus-upgrade.namespace" . }}
{{- include "milvus-upgrade.etcdArgs" . }}
{{- if eq .Values.verb "upgrade" }}
{{- include "milvus-upgrade.milvusArgs" . }}
{{- end }}
{{- end }}

{{- define "milvus-upgrade.podLabels" -}}
{{ merge (include "milvus-upgrade.labels" . | fromYaml) .Values.podLabels | toYaml }}
{{- end }}

{{- /* The pod that verifies. */ -}}
{{- define "milvus-upgrade.verifyPod" -}}
restartPolicy: Never
serviceAccountName: {{ include "milvus-upgrade.serviceAccount" . }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with include "milvus-upgrade.imagePullSecrets" . | trim }}
{{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
containers:
  - name: verify
    image: {{ include "milvus-upgrade.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      {{- include "milvus-upgrade.verifyArgs" . | nindent 6 }}
      {{- if not (or .Values.hooks.enabled (has .Values.operation (list "rollback" "abort"))) }}
      - --target-version={{ .Values.targetVersion }}
      {{- end }}
      {{- if include "milvus-upgrade.records" . }}
      - --record=configmap/{{ include "milvus-upgrade.record" . }}
      {{- end }}
      {{- if .Values.tests.probe }}
      - --probe
      {{- end }}
      {{- if .Values.hooks.enabled }}
      - --fail-on=failed
      {{- end }}
    {{- with .Values.extraEnv }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      {{- include "milvus-upgrade.containerSecurity" . | nindent 6 }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    {{- with include "milvus-upgrade.secretMounts" . | trim }}
    volumeMounts:
      {{- . | nindent 6 }}
    {{- end }}
{{- with include "milvus-upgrade.secretVolumes" . | trim }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
