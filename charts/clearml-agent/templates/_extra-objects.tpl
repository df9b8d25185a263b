{{/* One entry of extraObjects as it is rendered. Takes {context, object}. */}}
{{- define "clearml-agent.extraObject" -}}
{{- tpl (ternary .object (toYaml .object) (kindIs "string" .object)) .context -}}
{{- end -}}
