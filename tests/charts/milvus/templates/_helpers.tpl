{{- define "milvus.name" -}}{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "milvus.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}
{{- define "milvus.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "milvus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- define "milvus.matchLabels" -}}
app.kubernetes.io/name: {{ include "milvus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "milvus.image" -}}{{ .Values.image.all.repository }}:{{ default (printf "v%s" .Chart.AppVersion) .Values.image.all.tag }}{{- end }}
{{- define "milvus.at" -}}{{ if semverCompare (printf "%s-0" .at) .root.Chart.Version }}yes{{ end }}{{- end }}
{{- define "milvus.mixed" -}}
{{- if ne (toString .Values.mixCoordinator.enabled) "" }}{{ if .Values.mixCoordinator.enabled }}yes{{ end }}
{{- else }}{{ include "milvus.at" (dict "at" ">=4.2.4" "root" .) }}{{ end }}
{{- end }}
{{- define "milvus.queue" -}}
{{- if .Values.externalKafka.enabled }}kafka
{{- else if .Values.queue }}{{ .Values.queue }}
{{- else if .Values.cluster.enabled }}
{{- if and (include "milvus.at" (dict "at" ">=4.2.27" "root" .)) (not .Values.pinPulsarV2) }}pulsarv3{{ else }}pulsar{{ end }}
{{- else if .Values.standalone.messageQueue }}{{ .Values.standalone.messageQueue }}
{{- else if include "milvus.at" (dict "at" ">=5.0.0" "root" .) }}woodpecker
{{- else }}rocksmq{{ end }}
{{- end }}
