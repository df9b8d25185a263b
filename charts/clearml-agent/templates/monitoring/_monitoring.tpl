{{/* The label `job` of all that is scraped, by whichever monitor; rules and dashboard select by it and the namespace. */}}
{{- define "clearml-agent.metricsJob" -}}
{{- include "clearml-agent.controllerName" . -}}
{{- end -}}

{{/* Metadata of an object for Prometheus. Takes {context, labels}. */}}
{{- define "clearml-agent.monitoringMetadata" -}}
name: {{ include "clearml-agent.metricsName" .context | quote }}
namespace: {{ .context.Release.Namespace | quote }}
labels:
  {{- include "clearml-agent.labels" (dict "context" .context "component" "metrics") | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What a monitor says of the endpoint. */}}
{{- define "clearml-agent.metricsEndpoint" -}}
port: http
path: /metrics
interval: {{ .Values.metrics.interval }}
relabelings:
  - targetLabel: job
    replacement: {{ include "clearml-agent.metricsJob" . | quote }}
{{- end -}}
