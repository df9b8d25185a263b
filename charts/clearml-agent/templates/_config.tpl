{{/* The controller's config file (docs/architecture.md, "The config file"). */}}

{{/*
Keys of a pod template or of a queue's settings that are set: null, "", {} and [] mean "not set", 0 and false do not. As
JSON. Left out are keys that the controller does not know and that are accepted where they change nothing.
*/}}
{{- define "clearml-agent.setKeys" -}}
{{- $result := dict -}}
{{- range $key, $value := . -}}
{{- if not (or (kindIs "invalid" $value) (and (or (kindIs "string" $value) (kindIs "map" $value) (kindIs "slice" $value)) (empty $value))) -}}
{{- $_ := set $result $key $value -}}
{{- end -}}
{{- end -}}
{{- omit $result "backoffLimit" "restartPolicy" "useImageEntrypoint" | toJson -}}
{{- end -}}

{{/*
A pod template for the controller, as JSON: its set keys; in place of fileMounts, which hold contents, the Secret that has
them. Takes {context, template, queue}; queue is empty for the template of all.
*/}}
{{- define "clearml-agent.podTemplate" -}}
{{- $result := include "clearml-agent.setKeys" (.template | default dict) | fromJson -}}
{{- with $result.fileMounts -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (dict "key" (include "clearml-agent.fileKey" .) "path" (include "clearml-agent.filePath" .)) -}}
{{- end -}}
{{- $secret := ternary (include "clearml-agent.queueFilesSecretName" $) (include "clearml-agent.filesSecretName" $.context) (ne $.queue "") -}}
{{- $_ := set $result "files" (dict "secretName" $secret "items" $items) -}}
{{- end -}}
{{- omit $result "fileMounts" | toJson -}}
{{- end -}}

{{/* Names of the queues to serve, as people read them. Making the whole config for it is slow. */}}
{{- define "clearml-agent.queueNames" -}}
{{- $names := keys (.Values.agentk8sglue.queues | default dict) -}}
{{- if not $names -}}
{{- range splitList "," (.Values.agentk8sglue.queue | default "default") -}}
{{- $names = append $names (trim .) -}}
{{- end -}}
{{- end -}}
{{- $names | uniq | sortAlpha | join ", " -}}
{{- end -}}

{{/* Map of the queues to serve, in the shape of agentk8sglue.queues, as JSON. */}}
{{- define "clearml-agent.queues" -}}
{{- $result := dict -}}
{{- if .Values.agentk8sglue.queues -}}
{{- range $name, $queue := .Values.agentk8sglue.queues -}}
{{- $given := $queue | default dict -}}
{{- $_ := set $result $name (dict
      "templateOverrides" (include "clearml-agent.podTemplate" (dict "context" $ "template" $given.templateOverrides "queue" $name) | fromJson)
      "queueSettings" (include "clearml-agent.setKeys" ($given.queueSettings | default dict) | fromJson)) -}}
{{- end -}}
{{- else -}}
{{- range splitList "," (.Values.agentk8sglue.queue | default "default") -}}
{{- $_ := set $result (trim .) (dict "templateOverrides" dict "queueSettings" dict) -}}
{{- end -}}
{{- end -}}
{{- $result | toJson -}}
{{- end -}}

{{/* agentk8sglue.patienceSeconds, as JSON. Helm takes away a key with a default that is set to null, which means "never". */}}
{{- define "clearml-agent.patience" -}}
{{- $result := dict -}}
{{- range $key := list "imageName" "imagePull" "containerConfig" "unschedulable" "noPod" "quota" "limitRange" "podSecurity" "admission" "volume" "sandbox" -}}
{{- $_ := set $result $key (ternary (get $.Values.agentk8sglue.patienceSeconds $key) nil (hasKey $.Values.agentk8sglue.patienceSeconds $key)) -}}
{{- end -}}
{{- $result | toJson -}}
{{- end -}}

{{- define "clearml-agent.config" -}}
{{- $configSecret := dict -}}
{{- with include "clearml-agent.confSecretName" . -}}
{{- $configSecret = dict "name" . "key" "clearml.conf" -}}
{{- end -}}
{{- $clearml := dict
      "apiServer" (.Values.agentk8sglue.apiServerUrlReference | trimSuffix "/")
      "webServer" (.Values.agentk8sglue.webServerUrlReference | default "" | trimSuffix "/" | default nil)
      "fileServer" (.Values.agentk8sglue.fileServerUrlReference | default "" | trimSuffix "/" | default nil)
      "verifyCertificate" .Values.agentk8sglue.clearmlcheckCertificate
      "taskCredentials" (dict
        "secretName" (include "clearml-agent.taskCredentialsSecretName" .)
        "accessKeyKey" "agentk8sglue_key"
        "secretKeyKey" "agentk8sglue_secret")
      "configSecret" ($configSecret | default nil) -}}
{{- $config := dict
      "workerId" (.Values.agentk8sglue.workerIdOverride | default nil)
      "releaseName" .Release.Name
      "fullname" (include "clearml-agent.fullname" .)
      "namespace" .Release.Namespace
      "clearml" $clearml
      "queuePollFrequencySeconds" .Values.agentk8sglue.queuePollFrequencySeconds
      "createQueues" (or .Values.agentk8sglue.createQueues .Values.agentk8sglue.createQueueIfNotExists)
      "maxPods" .Values.agentk8sglue.maxPods
      "defaultContainerImage" .Values.agentk8sglue.defaultContainerImage
      "completedPodDeletionDelayMinutes" .Values.agentk8sglue.completedPodDeletionDelayMinutes
      "patienceSeconds" (include "clearml-agent.patience" . | fromJson)
      "task" (dict
        "serviceAccountName" (include "clearml-agent.taskServiceAccountName" .)
        "imagePullSecrets" (include "clearml-agent.pullSecrets" . | fromJson).names)
      "basePodTemplate" (include "clearml-agent.podTemplate" (dict "context" . "template" .Values.agentk8sglue.basePodTemplate "queue" "") | fromJson)
      "queues" (include "clearml-agent.queues" . | fromJson) -}}
{{- toYaml $config -}}
{{- end -}}
