{{/* The controller's account, as a list of subjects. */}}
{{- define "clearml-agent.controllerSubject" -}}
- kind: ServiceAccount
  name: {{ include "clearml-agent.controllerServiceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}
