{{/* The ServiceAccount under which ClearML's own chart runs its agent and all task pods. */}}
{{- define "clearml-agent.oldServiceAccountName" -}}
{{- include "clearml-agent.longName" . }}-sa
{{- end -}}

{{/*
Not empty while pods run under the account that ClearML's own chart made in this release. Helm removes that account when it
upgrades to this chart, and a pod that has not started yet could then never start: the kubelet gets no token for it.
The old agent's own pod counts, too: it may make task pods until it is gone.
*/}}
{{- define "clearml-agent.oldServiceAccountInUse" -}}
{{- if .Release.IsUpgrade -}}
{{- $name := include "clearml-agent.oldServiceAccountName" . -}}
{{- $account := lookup "v1" "ServiceAccount" .Release.Namespace $name -}}
{{- if eq .Release.Name (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $account) -}}
{{- range (lookup "v1" "Pod" .Release.Namespace "").items -}}
{{- if and (eq $name (dig "spec" "serviceAccountName" "" .)) (not (has (dig "status" "phase" "" .) (list "Succeeded" "Failed"))) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty while there are task pods that ClearML's own agent made, also those that have ended. */}}
{{- define "clearml-agent.oldPodsLeft" -}}
{{- if .Release.IsUpgrade -}}
{{- range (lookup "v1" "Pod" .Release.Namespace "").items -}}
{{- if hasKey (dig "metadata" "labels" dict .) "CLEARML" -}}
true
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
