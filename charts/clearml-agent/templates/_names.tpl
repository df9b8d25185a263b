{{/* Names: one template for each object. The base leaves room for the longest suffix within 63. */}}

{{- define "clearml-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The full name as ClearML's own chart builds it; what its pods refer to is named after it. */}}
{{- define "clearml-agent.longName" -}}
{{- $name := include "clearml-agent.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimAll "-." -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimAll "-." -}}
{{- end -}}
{{- end -}}

{{/* A name that has to be cut ends in a hash of the whole, which keeps long releases apart. */}}
{{- define "clearml-agent.fullname" -}}
{{- $name := include "clearml-agent.longName" . -}}
{{- if le (len $name) 52 -}}
{{- $name -}}
{{- else -}}
{{- printf "%s-%s" ($name | trunc 43 | trimAll "-.") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/*
What the controller is known by: in its id, and as app.kubernetes.io/instance on its task pods. The release, but with the
alias of a dependency that has one, so that two aliases in one release do not take each other's tasks for their own.
*/}}
{{- define "clearml-agent.taskInstance" -}}
{{- if eq .Chart.Name "clearml-agent" -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" (regexReplaceAll "[^-a-z0-9.]+" (printf "%s.%s" .Release.Name .Chart.Name | lower) "-" | trunc 54 | trimAll "-.") (printf "%s\n%s" .Release.Name .Chart.Name | sha256sum | trunc 8) -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.controllerName" -}}
{{- include "clearml-agent.fullname" . }}-controller
{{- end -}}

{{- define "clearml-agent.certificatesName" -}}
{{- include "clearml-agent.fullname" . }}-certs
{{- end -}}

{{- define "clearml-agent.claimsName" -}}
{{- include "clearml-agent.fullname" . }}-claims
{{- end -}}

{{- define "clearml-agent.leaseName" -}}
{{- include "clearml-agent.fullname" . }}-leader
{{- end -}}

{{- define "clearml-agent.metricsName" -}}
{{- include "clearml-agent.fullname" . }}-metrics
{{- end -}}

{{- define "clearml-agent.dashboardName" -}}
{{- include "clearml-agent.fullname" . }}-dashboard
{{- end -}}

{{- define "clearml-agent.testName" -}}
{{- include "clearml-agent.fullname" . }}-test
{{- end -}}

{{- define "clearml-agent.controllerServiceAccountName" -}}
{{- .Values.agentk8sglue.serviceExistingAccountName | default (include "clearml-agent.controllerName" .) -}}
{{- end -}}

{{- define "clearml-agent.taskServiceAccountName" -}}
{{- include "clearml-agent.fullname" . }}-task
{{- end -}}

{{- define "clearml-agent.taskDisruptionBudgetName" -}}
{{- include "clearml-agent.fullname" . }}-task
{{- end -}}

{{- define "clearml-agent.taskNetworkPolicyName" -}}
{{- include "clearml-agent.fullname" . }}-task
{{- end -}}

{{/* Name and keys of this Secret are those of ClearML's own chart: pods which that chart's agent made still refer to it. */}}
{{- define "clearml-agent.ownCredentialsSecretName" -}}
{{- include "clearml-agent.longName" . }}-ac
{{- end -}}

{{- define "clearml-agent.credentialsSecretName" -}}
{{- .Values.clearml.existingAgentk8sglueSecret | default (include "clearml-agent.ownCredentialsSecretName" .) -}}
{{- end -}}

{{- define "clearml-agent.ownTaskCredentialsSecretName" -}}
{{- include "clearml-agent.fullname" . }}-task-ac
{{- end -}}

{{/* What task pods use: credentials of their own, or else the controller's. */}}
{{- define "clearml-agent.taskCredentialsSecretName" -}}
{{- if .Values.clearml.taskCredentials.existingSecret -}}
{{- .Values.clearml.taskCredentials.existingSecret -}}
{{- else if .Values.clearml.taskCredentials.accessKey -}}
{{- include "clearml-agent.ownTaskCredentialsSecretName" . -}}
{{- else -}}
{{- include "clearml-agent.credentialsSecretName" . -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.ownConfSecretName" -}}
{{- include "clearml-agent.fullname" . }}-conf
{{- end -}}

{{/* Empty when task pods get no clearml.conf. */}}
{{- define "clearml-agent.confSecretName" -}}
{{- if .Values.clearml.existingClearmlConfigSecret -}}
{{- .Values.clearml.existingClearmlConfigSecret -}}
{{- else if .Values.clearml.clearmlConfig -}}
{{- include "clearml-agent.ownConfSecretName" . -}}
{{- end -}}
{{- end -}}

{{/* As with the credentials: old pods that have not started yet pull their images with it. */}}
{{- define "clearml-agent.ownPullSecretName" -}}
{{- include "clearml-agent.longName" . }}-ark
{{- end -}}

{{/*
A name of several parts that may be any text: the parts, cut, and a hash that keeps names apart which would look alike.
At most 63 characters. Takes {context, parts, suffix}.
*/}}
{{- define "clearml-agent.hashedName" -}}
{{- $suffix := .suffix | default "" -}}
{{- $parts := regexReplaceAll "[^a-z0-9]+" (join "-" .parts | lower) "-" | trunc (sub 54 (len $suffix) | int) | trimSuffix "-" -}}
{{- printf "%s-%s%s" $parts (prepend .parts .context.Release.Name | join "\n" | sha256sum | trunc 8) $suffix -}}
{{- end -}}

{{/* Takes {context, role}. */}}
{{- define "clearml-agent.roleBindingName" -}}
{{- include "clearml-agent.hashedName" (dict "context" .context "parts" (list (include "clearml-agent.fullname" .context) .role)) -}}
{{- end -}}

{{/* Begins with the namespace: it has none of its own. Takes {context, role}. */}}
{{- define "clearml-agent.clusterRoleBindingName" -}}
{{- include "clearml-agent.hashedName" (dict "context" .context "parts" (list .context.Release.Namespace (include "clearml-agent.fullname" .context) .role)) -}}
{{- end -}}

{{- define "clearml-agent.nodesRoleName" -}}
{{- include "clearml-agent.hashedName" (dict "context" . "parts" (list .Release.Namespace (include "clearml-agent.fullname" .)) "suffix" "-nodes") -}}
{{- end -}}

{{/* In another namespace than the release's. */}}
{{- define "clearml-agent.quotaRoleName" -}}
{{- include "clearml-agent.hashedName" (dict "context" . "parts" (list .Release.Namespace (include "clearml-agent.fullname" .)) "suffix" "-quota") -}}
{{- end -}}

{{- define "clearml-agent.controllerFilesSecretName" -}}
{{- include "clearml-agent.fullname" . }}-afm
{{- end -}}

{{/* Files of all task pods. */}}
{{- define "clearml-agent.filesSecretName" -}}
{{- include "clearml-agent.fullname" . }}-fm
{{- end -}}

{{/* Files of one queue's task pods. Takes {context, queue}. */}}
{{- define "clearml-agent.queueFilesSecretName" -}}
{{- include "clearml-agent.hashedName" (dict "context" .context "parts" (list (include "clearml-agent.fullname" .context) .queue) "suffix" "-fm") -}}
{{- end -}}
