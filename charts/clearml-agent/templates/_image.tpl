{{/* Reference of the controller's image. A repository that already names a registry gets none in front. */}}
{{- define "clearml-agent.image" -}}
{{- $registry := coalesce .Values.agentk8sglue.image.registry .Values.global.imageRegistry "ghcr.io" | trimSuffix "/" -}}
{{- $reference := printf "%s/%s" $registry .Values.agentk8sglue.image.repository -}}
{{- if regexMatch "^([^/]*[.:][^/]*|localhost)/" .Values.agentk8sglue.image.repository -}}
{{- $reference = .Values.agentk8sglue.image.repository -}}
{{- end -}}
{{- if .Values.agentk8sglue.image.digest -}}
{{- printf "%s@%s" $reference .Values.agentk8sglue.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $reference (.Values.agentk8sglue.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* "true" when a pull secret is used. */}}
{{- define "clearml-agent.pullSecretEnabled" -}}
{{- if kindIs "bool" .Values.imageCredentials.enabled -}}
{{- if .Values.imageCredentials.enabled }}true{{ end -}}
{{- else if or .Values.imageCredentials.password .Values.imageCredentials.existingSecret -}}
true
{{- end -}}
{{- end -}}

{{/* Names of all pull secrets, as {names: [...]}: Helm's include gives text only. */}}
{{- define "clearml-agent.pullSecrets" -}}
{{- $names := list -}}
{{- if include "clearml-agent.pullSecretEnabled" . -}}
{{- $names = append $names (.Values.imageCredentials.existingSecret | default (include "clearml-agent.ownPullSecretName" .)) -}}
{{- end -}}
{{- range .Values.imageCredentials.extraImagePullSecrets -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- dict "names" ($names | uniq) | toJson -}}
{{- end -}}

{{/* Contents of the generated pull secret. */}}
{{- define "clearml-agent.dockerconfigjson" -}}
{{- $password := .Values.imageCredentials.password | default "" -}}
{{- $entry := dict "username" .Values.imageCredentials.username "password" $password "auth" (printf "%s:%s" .Values.imageCredentials.username $password | b64enc) -}}
{{- with .Values.imageCredentials.email -}}
{{- $_ := set $entry "email" . -}}
{{- end -}}
{{- dict "auths" (dict .Values.imageCredentials.registry $entry) | toJson -}}
{{- end -}}
