{{/* Files of a Secret, each mounted alone (subPath), so that what else is in its folder stays. Entries are those of fileMounts. */}}

{{- define "clearml-agent.filePath" -}}
{{- clean (printf "%s/%s" .folderPath .name) -}}
{{- end -}}

{{/* The file's key in the Secret: the same whatever stands beside it, as pods that wait to start refer to it. */}}
{{- define "clearml-agent.fileKey" -}}
{{- printf "%s.%s" (regexReplaceAll "[^-._a-zA-Z0-9]+" .name "-" | trunc 200) (include "clearml-agent.filePath" . | sha256sum | trunc 8) -}}
{{- end -}}

{{/* Data of the Secret of a list of files. */}}
{{- define "clearml-agent.filesData" -}}
{{- range . }}
{{ include "clearml-agent.fileKey" . | quote }}: {{ .fileContent | b64enc | quote }}
{{- end }}
{{- end -}}

{{/* Takes {context, name, labels, files}; labels as text: with many queues, making them once for each is slow. */}}
{{- define "clearml-agent.taskFilesSecret" }}
---
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name | quote }}
  namespace: {{ .context.Release.Namespace | quote }}
  labels:
    {{- .labels | nindent 4 }}
type: Opaque
data:
  {{- include "clearml-agent.filesData" .files | trim | nindent 2 }}
{{- end -}}
