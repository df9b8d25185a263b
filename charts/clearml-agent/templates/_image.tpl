{{/* Reference of the controller's image. A repository that already names a registry gets none in front. */}}
{{- define "clearml-agent.image" -}}
{{- $image := .Values.agentk8sglue.image -}}
{{- $registry := coalesce $image.registry .Values.global.imageRegistry "ghcr.io" | trimSuffix "/" -}}
{{- $reference := printf "%s/%s" $registry $image.repository -}}
{{- if regexMatch "^([^/]*[.:][^/]*|localhost)/" $image.repository -}}
{{- $reference = $image.repository -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $reference $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $reference ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* "true" when a pull secret is used. */}}
{{- define "clearml-agent.pullSecretEnabled" -}}
{{- $credentials := .Values.imageCredentials -}}
{{- if kindIs "bool" $credentials.enabled -}}
{{- if $credentials.enabled }}true{{ end -}}
{{- else if or $credentials.password $credentials.existingSecret -}}
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
{{- $credentials := .Values.imageCredentials -}}
{{- $password := $credentials.password | default "" -}}
{{- $entry := dict "username" $credentials.username "password" $password "auth" (printf "%s:%s" $credentials.username $password | b64enc) -}}
{{- with $credentials.email -}}
{{- $_ := set $entry "email" . -}}
{{- end -}}
{{- dict "auths" (dict $credentials.registry $entry) | toJson -}}
{{- end -}}
