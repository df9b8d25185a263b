{{- define "old.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "old.account" -}}
{{- .Values.agentk8sglue.serviceExistingAccountName | default (printf "%s-sa" (include "old.fullname" .)) -}}
{{- end -}}

{{- define "old.credentials" -}}
{{- .Values.clearml.existingAgentk8sglueSecret | default (printf "%s-ac" (include "old.fullname" .)) -}}
{{- end -}}
