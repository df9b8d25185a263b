{{/* The controller's config file (docs/architecture.md, "The config file"). */}}

{{/*
Writes keys of a pod template or of a queue's settings into a map: those that are set. null, "", {} and [] mean "not set", 0
and false do not. Left out are keys that the controller does not know and that are accepted where they change nothing.
Takes {from, into}: a result as text would go through JSON and back for each of many queues.
*/}}
{{- define "clearml-agent.setKeys" -}}
{{- $into := .into -}}
{{- range $key, $value := .from -}}
{{- if or $value (not (has (kindOf $value) (list "invalid" "string" "map" "slice"))) -}}
{{- if not (has $key (list "backoffLimit" "restartPolicy")) -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Writes a pod template for the controller into a map: its set keys; in place of fileMounts, which hold contents, the Secret
that has them. Takes {context, template, queue, into}; queue is empty for the template of all.
*/}}
{{- define "clearml-agent.podTemplate" -}}
{{- include "clearml-agent.setKeys" (dict "from" .template "into" .into) -}}
{{- with .into.fileMounts -}}
{{- $items := list -}}
{{- range . -}}
{{- $items = append $items (dict "key" (include "clearml-agent.fileKey" .) "path" (include "clearml-agent.filePath" .)) -}}
{{- end -}}
{{- $secret := ternary (include "clearml-agent.queueFilesSecretName" $) (include "clearml-agent.filesSecretName" $.context) (ne $.queue "") -}}
{{- $_ := set $.into "files" (dict "secretName" $secret "items" $items) -}}
{{- end -}}
{{- $_ := unset .into "fileMounts" -}}
{{- end -}}

{{/* Writes conditional templates for the controller into a map, as its key conditionalTemplates. Takes {from, into}. */}}
{{- define "clearml-agent.conditionalTemplates" -}}
{{- $all := list -}}
{{- range .from -}}
{{- $template := dict -}}
{{- include "clearml-agent.setKeys" (dict "from" .template "into" $template) -}}
{{- $_ := unset $template "fileMounts" -}}
{{- $all = append $all (dict "when" .when "template" $template) -}}
{{- end -}}
{{- $_ := set .into "conditionalTemplates" $all -}}
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

{{/* Writes the queues to serve into a map, in the shape of agentk8sglue.queues. Takes {context, into}. */}}
{{- define "clearml-agent.queues" -}}
{{- $context := .context -}}
{{- $into := .into -}}
{{- $glue := $context.Values.agentk8sglue -}}
{{- if $glue.queues -}}
{{- range $name, $queue := $glue.queues -}}
{{- $template := dict -}}
{{- $settings := dict -}}
{{- with $queue -}}
{{- include "clearml-agent.podTemplate" (dict "context" $context "template" .templateOverrides "queue" $name "into" $template) -}}
{{- include "clearml-agent.setKeys" (dict "from" .queueSettings "into" $settings) -}}
{{- end -}}
{{- $entry := dict "templateOverrides" $template "queueSettings" $settings -}}
{{- with get ($queue | default dict) "conditionalTemplates" -}}
{{- include "clearml-agent.conditionalTemplates" (dict "from" . "into" $entry) -}}
{{- end -}}
{{- $_ := set $into $name $entry -}}
{{- end -}}
{{- else -}}
{{- range splitList "," ($glue.queue | default "default") -}}
{{- $_ := set $into (trim .) (dict "templateOverrides" dict "queueSettings" dict) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "yes" where the Jobs of some queue wait for Kueue, else nothing. A queue of its own may have no part in it. */}}
{{- define "clearml-agent.usesKueue" -}}
{{- $general := .Values.agentk8sglue.kueue.queueName | default "" -}}
{{- $found := ternary "" $general (not (empty .Values.agentk8sglue.queues)) -}}
{{- range $name, $queue := .Values.agentk8sglue.queues -}}
{{- $own := get (get ($queue | default dict) "queueSettings" | default dict) "kueue" | default dict -}}
{{- $found = $found | default (kindIs "invalid" $own.queueName | ternary $general $own.queueName) -}}
{{- end -}}
{{- with $found -}}yes{{- end -}}
{{- end -}}

{{/* agentk8sglue.patienceSeconds, as JSON. Helm takes away a key with a default that is set to null, which means "never". */}}
{{- define "clearml-agent.patience" -}}
{{- $result := dict -}}
{{- range $key := list "imageName" "imagePull" "containerConfig" "ownerToken" "unschedulable" "noPod" "quota" "limitRange" "podSecurity" "admission" "volume" "sandbox" "nodeLost" -}}
{{- $_ := set $result $key (ternary (get $.Values.agentk8sglue.patienceSeconds $key) nil (hasKey $.Values.agentk8sglue.patienceSeconds $key)) -}}
{{- end -}}
{{- $result | toJson -}}
{{- end -}}

{{/* agentk8sglue.orchestrationDashboard as JSON, in the newest of its names; validate refuses two names of one thing. */}}
{{- define "clearml-agent.dashboard" -}}
{{- $given := .Values.agentk8sglue.orchestrationDashboard -}}
{{- $max := $given.gpu.reportMax | default $given.reportMaxGpu | default .Values.agentk8sglue.dashboardReportMaxGpu | default 0 -}}
{{- $discovery := mergeOverwrite (deepCopy $given.gpu.discovery) ($given.discovery | default dict | deepCopy) -}}
{{- dict
      "reportType" ($given.reportType | default "disabled")
      "reportSeconds" $given.reportSeconds
      "gpu" (dict "reportMax" $max "discovery" $discovery)
      "cpu" (dict
        "reportMax" ($given.cpu.reportMax | default 0)
        "discovery" $given.cpu.discovery
        "reportNamespaced" $given.cpu.reportNamespaced
        "reportNamespaceOverride" ($given.cpu.reportNamespaceOverride | default nil)) | toJson -}}
{{- end -}}

{{/* The namespace whose quota is reported, where it is. */}}
{{- define "clearml-agent.quotaNamespace" -}}
{{- $cpu := .Values.agentk8sglue.orchestrationDashboard.cpu -}}
{{- if and $cpu.reportNamespaced (not $cpu.reportMax) -}}
{{- $cpu.reportNamespaceOverride | default .Release.Namespace -}}
{{- end -}}
{{- end -}}

{{/* The template module, with the folders of the controller's files to look for it in. */}}
{{- define "clearml-agent.templateModule" -}}
{{- $glue := .Values.agentk8sglue -}}
{{- $function := .Values.agentk8sglue.templateModule.function -}}
{{- range $glue.extraEnvs -}}
{{- if and (eq .name "CLEARML_K8S_GLUE_TEMPLATE_MODULE") .value -}}
{{- $function = .value -}}
{{- end -}}
{{- end -}}
{{- $folders := list -}}
{{- range $glue.fileMounts -}}
{{- $folders = append $folders (include "clearml-agent.filePath" . | dir) -}}
{{- end -}}
{{- dict "function" $function "timeoutSeconds" .Values.agentk8sglue.templateModule.timeoutSeconds "path" (ternary ($folders | uniq) list (ne $function "")) | toJson -}}
{{- end -}}

{{- define "clearml-agent.config" -}}
{{- $template := dict -}}
{{- include "clearml-agent.podTemplate" (dict "context" . "template" .Values.agentk8sglue.basePodTemplate "queue" "" "into" $template) -}}
{{- $conditional := dict -}}
{{- include "clearml-agent.conditionalTemplates" (dict "from" .Values.agentk8sglue.conditionalTemplates "into" $conditional) -}}
{{- $queues := dict -}}
{{- include "clearml-agent.queues" (dict "context" . "into" $queues) -}}
{{- $configSecret := dict -}}
{{- with include "clearml-agent.confSecretName" . -}}
{{- $configSecret = dict "name" . "key" "clearml.conf" -}}
{{- end -}}
{{- $clearml := dict
      "apiServer" (.Values.agentk8sglue.apiServerUrlReference | trimSuffix "/")
      "webServer" (.Values.agentk8sglue.webServerUrlReference | default "" | trimSuffix "/" | default nil)
      "fileServer" (.Values.agentk8sglue.fileServerUrlReference | default "" | trimSuffix "/" | default nil)
      "verifyCertificate" .Values.agentk8sglue.clearmlcheckCertificate
      "ownerToken" .Values.agentk8sglue.useOwnerToken
      "vaultEnvironment" .Values.agentk8sglue.applyVaultEnvVars
      "configSecret" ($configSecret | default nil) -}}
{{- if not .Values.agentk8sglue.useOwnerToken -}}
{{- $_ := set $clearml "taskCredentials" (dict
      "secretName" (include "clearml-agent.taskCredentialsSecretName" .)
      "accessKeyKey" "agentk8sglue_key"
      "secretKeyKey" "agentk8sglue_secret") -}}
{{- end -}}
{{- $config := dict
      "workerId" (.Values.agentk8sglue.workerIdOverride | default nil)
      "oldWorkerId" (include "clearml-agent.longName" .)
      "releaseName" (include "clearml-agent.taskInstance" .)
      "fullname" (include "clearml-agent.fullname" .)
      "namespace" .Release.Namespace
      "clearml" $clearml
      "queuePollFrequencySeconds" .Values.agentk8sglue.queuePollFrequencySeconds
      "createQueues" (or .Values.agentk8sglue.createQueues .Values.agentk8sglue.createQueueIfNotExists)
      "maxPods" .Values.agentk8sglue.maxPods
      "defaultContainerImage" .Values.agentk8sglue.defaultContainerImage
      "completedPodDeletionDelayMinutes" .Values.agentk8sglue.completedPodDeletionDelayMinutes
      "failedPodDeletionDelayMinutes" .Values.agentk8sglue.failedPodDeletionDelayMinutes
      "maxRunMinutes" .Values.agentk8sglue.maxRunMinutes
      "maxRequeues" .Values.agentk8sglue.maxRequeues
      "maxPendingPods" .Values.agentk8sglue.maxPendingPods
      "monitoredResources" .Values.agentk8sglue.monitoredResources
      "taskPolicy" .Values.agentk8sglue.taskPolicy
      "respectResourceQuotas" .Values.agentk8sglue.respectResourceQuotas
      "kueue" .Values.agentk8sglue.kueue
      "patienceSeconds" (include "clearml-agent.patience" . | fromJson)
      "task" (dict
        "serviceAccountName" (include "clearml-agent.taskServiceAccountName" .)
        "imagePullSecrets" (include "clearml-agent.pullSecrets" . | fromJson).names
        "preparationScript" .Values.agentk8sglue.customBashScript
        "startScript" .Values.agentk8sglue.containerCustomBashScript
        "skipsSystemPackages" .Values.agentk8sglue.airGappedSupport
        "controllerImage" (ternary (dict "name" (include "clearml-agent.image" .) "pullPolicy" .Values.agentk8sglue.image.pullPolicy) nil (ne "" (include "clearml-agent.preparesTasks" .)))
        "bootstrap" (.Values.bootstrap.enabled | default false)
        "certificates" (ternary (dict "configMap" (include "clearml-agent.certificatesName" .) "complete" (ne "" (.Values.customCertificates.overrideCaCertificatesCrt | default ""))) nil (.Values.customCertificates.propagateToTasks | default false)))
      "basePodTemplate" $template
      "conditionalTemplates" $conditional.conditionalTemplates
      "queues" $queues
      "clusterAccess" .Values.agentk8sglue.serviceAccountClusterAccess
      "statusReportFrequencySeconds" .Values.agentk8sglue.statusReportFrequencySeconds
      "templateModule" (include "clearml-agent.templateModule" . | fromJson)
      "podCommands" .Values.agentk8sglue.podCommands
      "taskWorkerId" (.Values.agentk8sglue.taskWorkerIdOverride | default nil)
      "orchestrationDashboard" (include "clearml-agent.dashboard" . | fromJson)
      "multiNode" .Values.agentk8sglue.multiNode
      "sessions" (omit .Values.sessions "dynamicSvcs" "setInteractiveQueuesTag") -}}
{{- toYaml $config -}}
{{- end -}}
