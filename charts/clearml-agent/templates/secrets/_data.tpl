{{/* Data of the Secret of credentials; also what its checksum is made of. */}}
{{- define "clearml-agent.credentialsData" -}}
agentk8sglue_key: {{ .Values.clearml.agentk8sglueKey | default "" | b64enc | quote }}
agentk8sglue_secret: {{ .Values.clearml.agentk8sglueSecret | default "" | b64enc | quote }}
{{- end -}}
