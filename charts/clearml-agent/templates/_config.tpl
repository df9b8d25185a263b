{{/* The controller's config file (docs/architecture.md, "The config file"). */}}

{{/* Keys of a pod template that are set: null, "", {} and [] mean "not set", 0 and false do not. As JSON. */}}
{{- define "clearml-agent.setKeys" -}}
{{- $result := dict -}}
{{- range $key, $value := . -}}
{{- if not (or (kindIs "invalid" $value) (and (or (kindIs "string" $value) (kindIs "map" $value) (kindIs "slice" $value)) (empty $value))) -}}
{{- $_ := set $result $key $value -}}
{{- end -}}
{{- end -}}
{{- $result | toJson -}}
{{- end -}}

{{/* Map of the queues to serve, in the shape of agentk8sglue.queues, as JSON. */}}
{{- define "clearml-agent.queues" -}}
{{- $result := dict -}}
{{- if .Values.agentk8sglue.queues -}}
{{- range $name, $queue := .Values.agentk8sglue.queues -}}
{{- $given := $queue | default dict -}}
{{- $_ := set $result $name (dict
      "templateOverrides" (include "clearml-agent.setKeys" ($given.templateOverrides | default dict) | fromJson)
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
      "basePodTemplate" (include "clearml-agent.setKeys" (.Values.agentk8sglue.basePodTemplate | default dict) | fromJson)
      "queues" (include "clearml-agent.queues" . | fromJson) -}}
{{- toYaml $config -}}
{{- end -}}
