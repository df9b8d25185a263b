{{/* What selectors match. Never change it within a major version. Takes {context, component}. */}}
{{- define "clearml-agent.matchLabels" -}}
app.kubernetes.io/name: {{ include "clearml-agent.name" .context | quote }}
app.kubernetes.io/instance: {{ .context.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* What the controller puts on all its task pods (clearml_k8s.names.task_selector). */}}
{{- define "clearml-agent.taskMatchLabels" -}}
app.kubernetes.io/instance: {{ include "clearml-agent.taskInstance" . | quote }}
app.kubernetes.io/component: task
app.kubernetes.io/managed-by: clearml-agent
{{- end -}}

{{/* Labels of every object but pods: a new chart version must not restart pods. Takes {context, component}. */}}
{{- define "clearml-agent.labels" -}}
{{ include "clearml-agent.matchLabels" . }}
app.kubernetes.io/part-of: clearml
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Label keys that belong to the chart and the controller, as a regular expression. */}}
{{- define "clearml-agent.reservedLabels" -}}
^(app\.kubernetes\.io/(name|instance|component|part-of|managed-by|version)|helm\.sh/.*|(.*\.)?clearml-k8s\.io/.*|clearml-task-id|clearml-agent-queue|clearml-agent-queue-name)$
{{- end -}}
