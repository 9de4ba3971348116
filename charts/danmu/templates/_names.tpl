{{/* Names and labels that more than one file needs. */}}

{{- define "danmu.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "danmu.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: danmu
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Pods of the operator. */}}
{{- define "danmu.operatorSelector" -}}
app.kubernetes.io/name: danmu-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Pods of room servers, and their admin Services: the labels that the operator writes, of whichever fleet. */}}
{{- define "danmu.serverSelector" -}}
app.kubernetes.io/name: danmu-server
{{- end -}}

{{- define "danmu.operatorAccount" -}}
{{- default (printf "%s-operator" (include "danmu.fullname" .)) .Values.operator.serviceAccount.name -}}
{{- end -}}

{{/* A ClusterRole: its name must not meet another release's. */}}
{{- define "danmu.serverRole" -}}
{{- printf "%s-%s-server" .Release.Namespace (include "danmu.fullname" .) -}}
{{- end -}}

{{- define "danmu.redisName" -}}
{{- printf "%s-redis" (include "danmu.fullname" .) -}}
{{- end -}}

{{/* repository:tag or repository@digest; takes {image, appVersion}. */}}
{{- define "danmu.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .appVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Namespaces that have fleets: the watched one, or the release's and those that are named. */}}
{{- define "danmu.serverNamespaces" -}}
{{- $first := default .Release.Namespace .Values.operator.watchNamespace -}}
{{- prepend .Values.server.namespaces $first | uniq | toJson -}}
{{- end -}}
