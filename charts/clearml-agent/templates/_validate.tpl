{{/*
What the schema cannot say: collects all problems of the values and fails once, naming for each the key, what was found
and what to write instead. Values of secrets are never shown.
*/}}
{{- define "clearml-agent.validate" -}}
{{- $state := dict "problems" list -}}
{{- if regexMatch "\"<[A-Z][A-Z0-9_ -]*>\"" (toRawJson .Values) -}}
{{- include "clearml-agent.validate.placeholders" (dict "state" $state "path" "" "value" .Values) -}}
{{- end -}}
{{- include "clearml-agent.validate.credentials" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.ownerToken" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.pullSecret" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.image" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.queues" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.controller" (dict "state" $state "values" .Values "context" .) -}}
{{- include "clearml-agent.validate.controllerVolumes" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.taskTemplates" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.taskFiles" (dict "state" $state "values" .Values "conf" (include "clearml-agent.confSecretName" .)) -}}
{{- include "clearml-agent.validate.startScript" (dict "state" $state "script" (.Values.agentk8sglue.containerCustomBashScript | default "") "preparation" (.Values.agentk8sglue.customBashScript | default "")) -}}
{{- include "clearml-agent.validate.templateModule" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.podCommands" (dict "state" $state "glue" .Values.agentk8sglue) -}}
{{- include "clearml-agent.validate.entrypoint" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.certificates" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.sessions" (dict "state" $state "sessions" .Values.sessions) -}}
{{- include "clearml-agent.validate.kueue" (dict "state" $state "glue" .Values.agentk8sglue) -}}
{{- include "clearml-agent.validate.multiNode" (dict "state" $state "glue" .Values.agentk8sglue) -}}
{{- include "clearml-agent.validate.networkPolicy" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.metrics" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.extraObjects" (dict "state" $state "context" .) -}}
{{- include "clearml-agent.validate.labels" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.dashboard" (dict "state" $state "context" .) -}}
{{- with $state.problems -}}
{{- fail (printf "\n\nThe values of chart %s cannot be used:\n\n%s\n" $.Chart.Name (join "\n" .)) -}}
{{- end -}}
{{- end -}}

{{/* Adds one problem. Takes {state, key, found, advice}. */}}
{{- define "clearml-agent.validate.add" -}}
{{- $_ := set .state "problems" (append .state.problems (printf "- %s: found %s; %s" .key .found .advice)) -}}
{{- end -}}

{{/* Placeholders copied from documentation, anywhere in the values: <ACCESS_KEY>. Takes {state, path, value}. */}}
{{- define "clearml-agent.validate.placeholders" -}}
{{- $state := .state -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- include "clearml-agent.validate.placeholders" (dict "state" $state "path" (printf "%s.%s" $path $key | trimPrefix ".") "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "clearml-agent.validate.placeholders" (dict "state" $state "path" (printf "%s[%d]" $path $index) "value" $value) -}}
{{- end -}}
{{- else if kindIs "string" .value -}}
{{- if regexMatch "^<[A-Z][A-Z0-9_ -]*>$" .value -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $path "found" (printf "the placeholder %s" .value) "advice" "write your own value in its place") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.credentials" -}}
{{- $state := .state -}}
{{- $clearml := .values.clearml -}}
{{- $keys := "clearml.agentk8sglueKey and clearml.agentk8sglueSecret" -}}
{{- $how := printf "set %s (in the ClearML web app: Settings > Workspace > API Credentials), or name in clearml.existingAgentk8sglueSecret a Secret that has the keys agentk8sglue_key and agentk8sglue_secret" $keys -}}
{{- if not $clearml.existingAgentk8sglueSecret -}}
{{- if not (or $clearml.agentk8sglueKey $clearml.agentk8sglueSecret) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $keys "found" "nothing" "advice" $how) -}}
{{- else if not $clearml.agentk8sglueSecret -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "clearml.agentk8sglueSecret" "found" "nothing, but clearml.agentk8sglueKey is set" "advice" "set both, or use clearml.existingAgentk8sglueSecret") -}}
{{- else if not $clearml.agentk8sglueKey -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "clearml.agentk8sglueKey" "found" "nothing, but clearml.agentk8sglueSecret is set" "advice" "set both, or use clearml.existingAgentk8sglueSecret") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.pullSecret" -}}
{{- $state := .state -}}
{{- $credentials := .values.imageCredentials -}}
{{- $given := or $credentials.password $credentials.existingSecret -}}
{{- if and $credentials.enabled (not $given) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "imageCredentials.enabled" "found" "true, but no credentials" "advice" "set imageCredentials.password (with username and registry) or imageCredentials.existingSecret, or leave enabled out") -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.image" -}}
{{- $state := .state -}}
{{- $image := .values.agentk8sglue.image -}}
{{- if and $image.registry (regexMatch "^([^/]*[.:][^/]*|localhost)/" $image.repository) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.image.registry" "found" (printf "%q, but agentk8sglue.image.repository %q names a registry, too" $image.registry $image.repository) "advice" "name the registry once") -}}
{{- end -}}
{{- if and (eq (.values.global.imageRegistry | default "") "docker.io") (not $image.registry) (eq $image.repository "clearml-k8s/controller") -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "global.imageRegistry" "found" "docker.io, the default of ClearML's own chart, where this controller's image is not" "advice" "leave it out, or write the registry that holds the image into agentk8sglue.image.registry (ghcr.io, where it comes from)") -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.queues" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- if $glue.queue -}}
{{- range splitList "," $glue.queue -}}
{{- if not (trim .) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.queue" "found" (printf "%q, with an empty name between its commas" $glue.queue) "advice" "write names separated by single commas, such as cpu,gpu") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name, $queue := $glue.queues -}}
{{- if ne $name (trim $name) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.queues" "found" (printf "the queue name %q, which begins or ends with a blank" $name) "advice" "write it without") -}}
{{- end -}}
{{- if regexMatch "^<[A-Z][A-Z0-9_ -]*>$" $name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.queues" "found" (printf "the placeholder %s as a queue's name" $name) "advice" "write the queue's name or id in its place") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the chart itself puts into the controller's pod cannot be put there a second time. */}}
{{- define "clearml-agent.validate.controller" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- $refused := (.context.Files.Get "files/glue-variables.yaml" | fromYaml).refused -}}
{{- $variables := dict -}}
{{- range $index, $env := $glue.extraEnvs -}}
{{- if hasKey $variables $env.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" (printf "the name %s, which %s has, too" $env.name (get $variables $env.name)) "advice" "set each variable once") -}}
{{- end -}}
{{- $_ := set $variables $env.name (printf "agentk8sglue.extraEnvs[%d]" $index) -}}
{{- if eq $env.name "CLEARML_K8S_CREDENTIALS_DIR" -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" (get $refused "CLEARML_API_ACCESS_KEY")) -}}
{{- else if eq $env.name "CLEARML_K8S_TASK_CONF" -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" "the chart sets it: write clearml.clearmlConfig or clearml.existingClearmlConfigSecret") -}}
{{- else if hasKey $refused $env.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" (get $refused $env.name)) -}}
{{- else if eq $env.name "CLEARML_K8S_POD_NAME" -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" "the chart sets it: by the pod's own name the controller knows its Lease; leave it out") -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := $glue.annotations -}}
{{- if hasPrefix "checksum/" $key -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.annotations" "found" $key "advice" "the prefix checksum/ belongs to the chart; choose another key") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names and paths of what the controller's pod mounts: those of the chart are taken, and each is there once. */}}
{{- define "clearml-agent.validate.controllerVolumes" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- $names := dict -}}
{{- range $key := list "volumes" "extraVolumes" -}}
{{- range $index, $volume := get $glue $key | default list -}}
{{- $place := printf "agentk8sglue.%s[%d]" $key $index -}}
{{- if hasPrefix "clearml-k8s-" $volume.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the name %s" $volume.name) "advice" "names that begin with clearml-k8s- belong to the chart; choose another one") -}}
{{- else if hasKey $names $volume.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the name %s, which %s has, too" $volume.name (get $names $volume.name)) "advice" "volumes and extraVolumes are joined, so name each volume once") -}}
{{- end -}}
{{- $_ := set $names $volume.name $place -}}
{{- end -}}
{{- end -}}
{{- $paths := dict -}}
{{- range $key := list "volumeMounts" "extraVolumeMounts" "fileMounts" -}}
{{- range $index, $mount := get $glue $key | default list -}}
{{- $place := printf "agentk8sglue.%s[%d]" $key $index -}}
{{- $field := ternary "path" "mountPath" (eq $key "fileMounts") -}}
{{- $path := eq $key "fileMounts" | ternary (include "clearml-agent.filePath" (dict "folderPath" ($mount.folderPath | default "") "name" $mount.name)) (clean ($mount.mountPath | default "")) -}}
{{- if or (has $path (list "/tmp" "/etc/clearml-k8s" "/etc/clearml-k8s-conf" "/etc/clearml-k8s-credentials" "/etc/clearml-k8s-certificates")) (hasPrefix "/etc/clearml-k8s/" $path) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the %s %s" $field ($mount.mountPath | default $path)) "advice" "the chart mounts its own volume there; choose another path") -}}
{{- else if hasKey $paths $path -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the %s %s, which %s has, too" $field $path (get $paths $path)) "advice" "mount one thing at each path") -}}
{{- end -}}
{{- $_ := set $paths $path $place -}}
{{- if and (ne $key "fileMounts") (not (hasKey $names $mount.name)) (not (hasPrefix "clearml-k8s-" $mount.name)) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the volume %s, which is not there" $mount.name) "advice" "name one of agentk8sglue.volumes or extraVolumes") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $containers := dict "controller" "the controller" "clearml-k8s-certificates" "the chart" -}}
{{- range $index, $container := $glue.extraInitContainers -}}
{{- $place := printf "agentk8sglue.extraInitContainers[%d]" $index -}}
{{- if hasKey $containers $container.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" (printf "the name %s, which %s has, too" $container.name (get $containers $container.name)) "advice" "name each container once") -}}
{{- end -}}
{{- $_ := set $containers $container.name $place -}}
{{- end -}}
{{- end -}}

{{/* Writes every pod template into a map, by the key under which it stands. Takes {values, into}. */}}
{{- define "clearml-agent.validate.templatePlaces" -}}
{{- $into := .into -}}
{{- $glue := .values.agentk8sglue -}}
{{- $_ := set $into "agentk8sglue.basePodTemplate" ($glue.basePodTemplate | default dict) -}}
{{- range $index, $entry := $glue.conditionalTemplates -}}
{{- $_ := set $into (printf "agentk8sglue.conditionalTemplates[%d].template" $index) ($entry.template | default dict) -}}
{{- end -}}
{{- range $name, $queue := $glue.queues -}}
{{- $_ := set $into (printf "agentk8sglue.queues.%s.templateOverrides" $name) (get ($queue | default dict) "templateOverrides" | default dict) -}}
{{- range $index, $entry := get ($queue | default dict) "conditionalTemplates" | default list -}}
{{- $_ := set $into (printf "agentk8sglue.queues.%s.conditionalTemplates[%d].template" $name $index) ($entry.template | default dict) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the controller sets in each task pod, and string templates that nothing fills in. */}}
{{- define "clearml-agent.validate.taskTemplates" -}}
{{- $state := .state -}}
{{- $places := dict -}}
{{- include "clearml-agent.validate.templatePlaces" (dict "values" .values "into" $places) -}}
{{- $advice := dict
      "CLEARML_API_HOST" "write agentk8sglue.apiServerUrlReference"
      "CLEARML_WEB_HOST" "write agentk8sglue.webServerUrlReference"
      "CLEARML_FILES_HOST" "write agentk8sglue.fileServerUrlReference"
      "CLEARML_API_ACCESS_KEY" "give task pods credentials of their own with clearml.taskCredentials"
      "CLEARML_API_SECRET_KEY" "give task pods credentials of their own with clearml.taskCredentials" -}}
{{- range list "CLEARML_AUTH_TOKEN" "CLEARML_WORKER_ID" "CLEARML_K8S_TASK_ID" "CLEARML_K8S_ATTEMPT" "CLEARML_K8S_SETUP_SCRIPT" "CLEARML_K8S_NEEDS_GIT" "CLEARML_K8S_BOOTSTRAP" -}}
{{- $_ := set $advice . "the controller sets it for each task: leave it out" -}}
{{- end -}}
{{- range $place, $template := $places -}}
{{- include "clearml-agent.validate.strings" (dict "state" $state "place" $place "value" (omit ($template | default dict) "fileMounts")) -}}
{{- range $index, $env := get ($template | default dict) "env" | default list -}}
{{- $key := printf "%s.env[%d]" $place $index -}}
{{- with get $advice $env.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $env.name "advice" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes {state, values, conf}: conf is set when task pods get a clearml.conf. */}}
{{- define "clearml-agent.validate.taskFiles" -}}
{{- $state := .state -}}
{{- $conf := .conf -}}
{{- $places := dict "agentk8sglue.basePodTemplate" .values.agentk8sglue.basePodTemplate -}}
{{- range $name, $queue := .values.agentk8sglue.queues -}}
{{- $_ := set $places (printf "agentk8sglue.queues.%s.templateOverrides" $name) (get ($queue | default dict) "templateOverrides") -}}
{{- end -}}
{{- range $place, $template := $places -}}
{{- $paths := dict -}}
{{- range $index, $file := get ($template | default dict) "fileMounts" | default list -}}
{{- $key := printf "%s.fileMounts[%d]" $place $index -}}
{{- $path := include "clearml-agent.filePath" $file -}}
{{- if and $conf (or (eq $path "/etc/clearml") (hasPrefix "/etc/clearml/" $path)) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" (printf "the path %s" $path) "advice" "the chart mounts clearml.conf in that folder; choose another one, or write into clearml.clearmlConfig") -}}
{{- else if hasKey $paths $path -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" (printf "the path %s, which %s has, too" $path (get $paths $path)) "advice" "mount one file at each path") -}}
{{- end -}}
{{- $_ := set $paths $path $key -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* String templates that nothing fills in, or that are none: config/strings.py judges alike. Takes {state, place, value}. */}}
{{- define "clearml-agent.validate.strings" -}}
{{- $state := .state -}}
{{- $place := .place -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- include "clearml-agent.validate.strings" (dict "state" $state "place" (printf "%s.%s" $place $key) "value" $value) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "clearml-agent.validate.strings" (dict "state" $state "place" (printf "%s[%d]" $place $index) "value" $value) -}}
{{- end -}}
{{- else if kindIs "string" .value -}}
{{- $names := "(QUEUE_NAME|QUEUE_ID|WORKER_ID|PROJECT_NAME|PROJECT_ID|TASK|USER|CONFIG|USER_VAULTS|PROVIDERS_INFO)" -}}
{{- $all := regexFindAll (printf "\\$\\{CLEARML_%s([^A-Z_0-9]|$)" $names) (replace "${CLEARML_" " ${CLEARML_" .value) -1 | len -}}
{{- $good := regexFindAll "\\$\\{CLEARML_((QUEUE_NAME|QUEUE_ID|WORKER_ID|PROJECT_NAME|PROJECT_ID)|TASK([.][^.:|{} \\t\\r\\n]+)+)(:[^|{}]*)?([|](capitalize|label|lower|raw|remove_newlines|strip)([(][^)|{}]*[)])?)*\\}" .value -1 | len -}}
{{- if ne $all $good -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" "a string template that nothing fills in" "advice" "there are CLEARML_QUEUE_NAME, CLEARML_QUEUE_ID, CLEARML_WORKER_ID, CLEARML_PROJECT_NAME, CLEARML_PROJECT_ID and CLEARML_TASK.<path>, as in ${CLEARML_TASK.name:none|lower}") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The controller judges alike: config/start_script.py. Takes {state, script, preparation}. */}}
{{- define "clearml-agent.validate.startScript" -}}
{{- $state := .state -}}
{{- range $key, $script := dict "customBashScript" .preparation "containerCustomBashScript" (replace "{extra_bash_init_cmd}" .preparation .script) -}}
{{- if gt (len $script) 120000 -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.%s" $key) "found" (printf "%d bytes" (len $script)) "advice" "at most 120000 are possible: have it download the rest") -}}
{{- end -}}
{{- end -}}
{{- $known := list "{{" "}}" "{agent_install_args}" "{default_execution_agent_args}" "{extra_bash_init_cmd}" "{extra_docker_bash_script}" "{task_id}" -}}
{{- $strange := "" -}}
{{- range regexFindAll "\\{\\{|\\}\\}|\\{[A-Za-z0-9_]*\\}|[{}]" .script -1 -}}
{{- if and (not $strange) (not (has . $known)) -}}
{{- $strange = . -}}
{{- end -}}
{{- end -}}
{{- with $strange -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.containerCustomBashScript" "found" . "advice" (printf "write one of %s, or a brace that is meant literally twice, as in ${{HOME}}" (slice $known 2 | join ", "))) -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.templateModule" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- range $index, $env := $glue.extraEnvs -}}
{{- if eq $env.name "CLEARML_K8S_GLUE_TEMPLATE_MODULE" -}}
{{- $key := printf "agentk8sglue.extraEnvs[%d]" $index -}}
{{- if $glue.templateModule.function -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $env.name "advice" "agentk8sglue.templateModule.function says it already: leave one of them out") -}}
{{- else if not (regexMatch "^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$" ($env.value | default "")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $env.name "advice" "write its value as module:function, as in custom_code:update_template") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Commands around pods, by value or variable: config/pod_commands.py judges alike. Takes {state, glue}. */}}
{{- define "clearml-agent.validate.podCommands" -}}
{{- $state := .state -}}
{{- $commands := .glue.podCommands -}}
{{- if regexMatch "(^|[^$]){pod_number}" ($commands.preApply | default "") -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.podCommands.preApply" "found" "{pod_number}" "advice" "a pod has it only once it is made: name things by {pod_name}") -}}
{{- end -}}
{{- $keys := dict "CLEARML_K8S_GLUE_POD_PRE_APPLY_CMD" "preApply" "CLEARML_K8S_GLUE_POD_POST_APPLY_CMD" "postApply" "CLEARML_K8S_GLUE_POD_POST_DELETE_CMD" "postDelete" -}}
{{- range $index, $env := .glue.extraEnvs -}}
{{- with get $keys $env.name -}}
{{- if trim (get $commands . | default "") -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" (printf "agentk8sglue.podCommands.%s says it already: leave one of them out" .)) -}}
{{- else if and (eq . "preApply") (regexMatch "(^|[^$]){pod_number}" ($env.value | default "")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" (printf "{pod_number} in %s" $env.name) "advice" "a pod has it only once it is made: name things by {pod_name}") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Scripts that no task's pod would run: config/glue_environment.py judges alike. Takes {state, values}. */}}
{{- define "clearml-agent.validate.entrypoint" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- $general := false -}}
{{- range $glue.extraEnvs -}}
{{- if and (eq .name "K8S_GLUE_POD_USE_IMAGE_ENTRYPOINT") (has (.value | default "" | trim | lower) (list "1" "true" "yes" "on" "y" "t")) -}}
{{- $general = true -}}
{{- end -}}
{{- end -}}
{{- $all := true -}}
{{- range $queue := $glue.queues | default (dict "default" dict) -}}
{{- $own := get (get ($queue | default dict) "queueSettings" | default dict) "useImageEntrypoint" -}}
{{- if not (ternary $own $general (kindIs "bool" $own)) -}}
{{- $all = false -}}
{{- end -}}
{{- end -}}
{{- range $key := list "customBashScript" "containerCustomBashScript" -}}
{{- if and $all (get $glue $key | default "" | trim) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.%s" $key) "found" "a script that no task's pod runs, as every queue uses the image's entrypoint" "advice" "leave it out, or give a queue useImageEntrypoint: false") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
One certificate that cannot be read spoils the whole file, for every program. What is looked at is that each is base64, and
as long as its own first bytes say (DER: 0x30, then 0x82 and two bytes, or 0x81 and one). Takes {state, key, pem}.
*/}}
{{- define "clearml-agent.validate.pem" -}}
{{- $state := .state -}}
{{- $key := .key -}}
{{- range $index, $part := splitList "-----BEGIN CERTIFICATE-----" .pem | rest -}}
{{- $body := splitList "-----END CERTIFICATE-----" $part | first | trim -}}
{{- $bytes := regexReplaceAll "\\s" $body "" | b64dec -}}
{{- $long := -1 -}}
{{- if and (contains "-----END CERTIFICATE-----" $part) (gt (len $bytes) 4) (not (regexMatch "\\n\\s*\\n" $body)) -}}
{{- if eq (index $bytes 0 | int) 48 -}}
{{- if eq (index $bytes 1 | int) 130 -}}
{{- $long = add (mul 256 (index $bytes 2 | int)) (index $bytes 3 | int) 4 -}}
{{- else if eq (index $bytes 1 | int) 129 -}}
{{- $long = add (index $bytes 2 | int) 3 -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne (int $long) (len $bytes) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" (printf "a text that is no certificate, as number %d of them" (add1 $index)) "advice" "copy it anew, with all its lines: one that cannot be read makes programs refuse all the others") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.certificates" -}}
{{- $state := .state -}}
{{- $given := .values.customCertificates -}}
{{- with $given.overrideCaCertificatesCrt -}}
{{- include "clearml-agent.validate.pem" (dict "state" $state "key" "customCertificates.overrideCaCertificatesCrt" "pem" .) -}}
{{- end -}}
{{- if and $given.propagateToTasks (not $given.extraCerts) (not $given.overrideCaCertificatesCrt) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "customCertificates.propagateToTasks" "found" "true, but no certificates" "advice" "write them into customCertificates.extraCerts, or leave it out") -}}
{{- end -}}
{{- $names := dict -}}
{{- range $index, $one := $given.extraCerts -}}
{{- if hasKey $names $one.alias -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "customCertificates.extraCerts[%d].alias" $index) "found" (printf "%s, which entry %d has, too" $one.alias (get $names $one.alias)) "advice" "name each certificate once") -}}
{{- end -}}
{{- $_ := set $names $one.alias $index -}}
{{- include "clearml-agent.validate.pem" (dict "state" $state "key" (printf "customCertificates.extraCerts[%d].pem" $index) "pem" $one.pem) -}}
{{- end -}}
{{- range $index, $env := .values.agentk8sglue.extraEnvs -}}
{{- if and (has $env.name (list "REQUESTS_CA_BUNDLE" "SSL_CERT_FILE")) (or $given.extraCerts $given.overrideCaCertificatesCrt) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" "customCertificates sets it: keep one of the two") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A pod logs in once. What a Secret of the user's own holds of clearml.conf is the controller's to look at. */}}
{{- define "clearml-agent.validate.ownerToken" -}}
{{- $clearml := .values.clearml -}}
{{- if .values.agentk8sglue.useOwnerToken -}}
{{- if or $clearml.taskCredentials.existingSecret $clearml.taskCredentials.accessKey -}}
{{- include "clearml-agent.validate.add" (dict "state" .state "key" "clearml.taskCredentials" "found" "credentials of task pods beside agentk8sglue.useOwnerToken" "advice" "task pods get their owners' tokens in place of them: leave one of the two out") -}}
{{- end -}}
{{- if regexMatch "(access|secret)_key" ($clearml.clearmlConfig | default "") -}}
{{- include "clearml-agent.validate.add" (dict "state" .state "key" "clearml.clearmlConfig" "found" "access_key or secret_key" "advice" "with agentk8sglue.useOwnerToken every task could read the keys there: take them out") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The ports of nodes are Kubernetes' own to give away. */}}
{{- define "clearml-agent.validate.sessions" -}}
{{- $first := add .sessions.startingPort 1 -}}
{{- $last := add .sessions.startingPort .sessions.maxServices -}}
{{- if and .sessions.portModeEnabled (eq .sessions.svcType "NodePort") (or (lt $first 30000) (gt $last 32767)) -}}
{{- include "clearml-agent.validate.add" (dict "state" .state "key" "sessions.startingPort" "found" (printf "%d, which with maxServices %d gives the ports %d to %d" (int .sessions.startingPort) (int .sessions.maxServices) $first $last) "advice" "with svcType NodePort choose both so that all ports are in 30000 to 32767, those that Kubernetes gives away") -}}
{{- end -}}
{{- end -}}

{{/* All pods of a task are alike: each has the greatest common divisor of the GPUs of its nodes. */}}
{{- define "clearml-agent.validate.multiNode" -}}
{{- $state := .state -}}
{{- $glue := .glue -}}
{{- range $name, $queue := $glue.queues -}}
{{- $settings := get ($queue | default dict) "queueSettings" | default dict -}}
{{- with get $settings "multiNode" -}}
{{- $key := printf "agentk8sglue.queues.%s.queueSettings.multiNode" $name -}}
{{- $found := printf "[%s]" (join ", " .) -}}
{{- if not $glue.multiNode.enabled -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $found "advice" "set agentk8sglue.multiNode.enabled: true, or leave it out") -}}
{{- end -}}
{{- if get $settings "useImageEntrypoint" -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" (printf "%s with useImageEntrypoint: true" $found) "advice" "keep one of the two: pods of one task wait for each other in our start script") -}}
{{- end -}}
{{- $divisor := 0 -}}
{{- $total := 0 -}}
{{- $none := false -}}
{{- range . -}}
{{- $total = add $total (int .) -}}
{{- $none = or $none (eq (int .) 0) -}}
{{- $other := int . -}}
{{- range until 20 -}}
{{- if gt $other 0 -}}
{{- $rest := mod $divisor $other -}}
{{- $divisor = $other -}}
{{- $other = int $rest -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $none (gt $total 0) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $found "advice" "a node without GPUs cannot stand beside others: leave the 0 out") -}}
{{- else -}}
{{- $pods := len . -}}
{{- if gt $divisor 0 -}}
{{- $pods = div $total $divisor -}}
{{- end -}}
{{- $resources := get (get ($queue | default dict) "templateOverrides" | default dict) "resources" | default $glue.basePodTemplate.resources | default dict -}}
{{- $limit := 0 -}}
{{- range $resource, $amount := get $resources "limits" | default dict -}}
{{- if regexMatch "(/gpu([.].*)?$)|(^nvidia[.]com/mig-)|(^gpu[.]intel[.]com/)|(^habana[.]ai/gaudi$)" $resource -}}
{{- $limit = ternary (add $limit (int $amount)) -1000000 (regexMatch "^[0-9]+$" (toString $amount)) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $pods) 512 -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $found "advice" (printf "that makes %d pods; 512 are the most that one task may have" (int $pods))) -}}
{{- else if and (ge (int $limit) 0) (ne (int $limit) (int $divisor)) -}}
{{- $advice := ternary "leave GPUs out of templateOverrides.resources.limits" (printf "write templateOverrides.resources.limits with nvidia.com/gpu: %d" (int $divisor)) (eq (int $divisor) 0) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" $found "advice" (printf "that makes %d pods of %d GPUs (the greatest common divisor), and the template's limit is %d: %s" (int $pods) (int $divisor) (int $limit) $advice)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.networkPolicy" -}}
{{- $state := .state -}}
{{- range $name, $policy := .values.networkPolicy -}}
{{- range $key := list "ingress" "egress" -}}
{{- if and (get $policy $key) (not $policy.enabled) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "networkPolicy.%s.%s" $name $key) "found" (printf "rules, but networkPolicy.%s.enabled is false" $name) "advice" "set it to true, or leave the rules out") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.metrics" -}}
{{- $metrics := .values.metrics -}}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled -}}
{{- include "clearml-agent.validate.add" (dict "state" .state "key" "metrics.podMonitor.enabled" "found" "true, and metrics.serviceMonitor.enabled, too" "advice" "leave one of them false: with both everything is scraped, and counted, twice") -}}
{{- end -}}
{{- end -}}

{{/* Takes {state, context}. An entry that renders to nothing is none. */}}
{{- define "clearml-agent.validate.extraObjects" -}}
{{- $state := .state -}}
{{- $context := .context -}}
{{- range $index, $object := $context.Values.extraObjects -}}
{{- $text := include "clearml-agent.extraObject" (dict "context" $context "object" $object) | trim | trimPrefix "---" | trim -}}
{{- if $text -}}
{{- $place := printf "extraObjects[%d]" $index -}}
{{- $parsed := fromYaml $text -}}
{{- if regexMatch "(?m)^---" $text -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" "several objects in one text" "advice" "make an entry of each") -}}
{{- else if and (hasKey $parsed "Error") (not $parsed.kind) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" "no object in YAML" "advice" "write one with apiVersion, kind and metadata.name") -}}
{{- else if not (and $parsed.apiVersion $parsed.kind (kindIs "map" $parsed.metadata) (get ($parsed.metadata | default dict) "name")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" "an object without apiVersion, kind or metadata.name" "advice" "write all three") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.labels" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- $places := dict "agentk8sglue.labels" $glue.labels -}}
{{- $templates := dict -}}
{{- include "clearml-agent.validate.templatePlaces" (dict "values" .values "into" $templates) -}}
{{- range $place, $template := $templates -}}
{{- $_ := set $places (printf "%s.labels" $place) (get $template "labels") -}}
{{- end -}}
{{- range $name := list "serviceMonitor" "podMonitor" "prometheusRule" "grafanaDashboard" -}}
{{- $_ := set $places (printf "metrics.%s.labels" $name) (get $.values.metrics $name).labels -}}
{{- end -}}
{{- $reserved := include "clearml-agent.reservedLabels" $state -}}
{{- range $place, $labels := $places -}}
{{- range $key, $_ := $labels | default dict -}}
{{- if or (regexMatch $reserved $key) (and (eq $place "agentk8sglue.labels") (eq $key "app.kubernetes.io/version")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" $key "advice" "this label belongs to the chart and its controller; choose another key") -}}
{{- else if and (ne $place "agentk8sglue.labels") (has $key (list "kueue.x-k8s.io/queue-name" "kueue.x-k8s.io/priority-class")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" $key "advice" "write agentk8sglue.kueue or queueSettings.kueue ({queueName: NAME}) in its place: the label belongs on the Job alone") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A priority for Kueue where Kueue has no part. Takes {state, glue}. */}}
{{- define "clearml-agent.validate.kueue" -}}
{{- $state := .state -}}
{{- $general := .glue.kueue -}}
{{- $advice := "name the LocalQueue in queueName, too" -}}
{{- $named := ne ($general.queueName | default "") "" -}}
{{- range $name, $queue := .glue.queues -}}
{{- with get (get ($queue | default dict) "queueSettings" | default dict) "kueue" -}}
{{- $own := kindIs "invalid" .queueName | ternary $general.queueName .queueName -}}
{{- $named = or $named (ne ($own | default "") "") -}}
{{- if and .priorityClass (not $own) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.queues.%s.queueSettings.kueue.priorityClass" $name) "found" .priorityClass "advice" $advice) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $general.priorityClass (not $named) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.kueue.priorityClass" "found" $general.priorityClass "advice" $advice) -}}
{{- end -}}
{{- end -}}

{{/* Takes {state, context}. */}}
{{- define "clearml-agent.validate.dashboard" -}}
{{- $state := .state -}}
{{- $glue := .context.Values.agentk8sglue -}}
{{- $dashboard := $glue.orchestrationDashboard -}}
{{- $place := "agentk8sglue.orchestrationDashboard" -}}
{{- $maxima := dict -}}
{{- if $dashboard.gpu.reportMax -}}{{- $_ := set $maxima (printf "%s.gpu.reportMax" $place) $dashboard.gpu.reportMax -}}{{- end -}}
{{- if $dashboard.reportMaxGpu -}}{{- $_ := set $maxima (printf "%s.reportMaxGpu" $place) $dashboard.reportMaxGpu -}}{{- end -}}
{{- if $glue.dashboardReportMaxGpu -}}{{- $_ := set $maxima "agentk8sglue.dashboardReportMaxGpu" $glue.dashboardReportMaxGpu -}}{{- end -}}
{{- if gt (len $maxima) 1 -}}
{{- range $key := keys $maxima | sortAlpha -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $key "found" (get $maxima $key | toJson) "advice" (printf "%s are names of one setting: keep one of them, best %s.gpu.reportMax" (keys $maxima | sortAlpha | join " and ") $place)) -}}
{{- end -}}
{{- end -}}
{{- $gpuKey := printf "%s.gpu.discovery" $place -}}
{{- $gpu := $dashboard.gpu.discovery -}}
{{- if $dashboard.discovery -}}
{{- if or $gpu.enabled $gpu.nodeSelector -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.discovery" $place) "found" (printf "settings, and others in %s" $gpuKey) "advice" (printf "both are names of one setting: keep %s" $gpuKey)) -}}
{{- end -}}
{{- $gpuKey = printf "%s.discovery" $place -}}
{{- $gpu = mergeOverwrite (deepCopy $gpu) $dashboard.discovery -}}
{{- end -}}
{{- $cpu := $dashboard.cpu -}}
{{- $access := "set agentk8sglue.serviceAccountClusterAccess: true, which gives the controller a ClusterRole to list and watch nodes, or write the number into" -}}
{{- if and $gpu.enabled (not $maxima) (not $glue.serviceAccountClusterAccess) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.enabled" $gpuKey) "found" "true, but no access to nodes" "advice" (printf "%s %s.gpu.reportMax" $access $place)) -}}
{{- end -}}
{{- if and $cpu.discovery.enabled (not $cpu.reportMax) (not $cpu.reportNamespaced) (not $glue.serviceAccountClusterAccess) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.cpu.discovery.enabled" $place) "found" "true, but no access to nodes" "advice" (printf "%s %s.cpu.reportMax" $access $place)) -}}
{{- end -}}
{{- $key := "([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?" -}}
{{- $value := "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?" -}}
{{- $one := printf "(!\\s*%s|%s(\\s*(==|=|!=)\\s*%s|\\s+(in|notin)\\s*\\(\\s*%s\\s*(,\\s*%s\\s*)*\\)|\\s*[<>]\\s*[+-]?[0-9]{1,18})?)" $key $key $value $value $value -}}
{{- $selectors := dict (printf "%s.baseSelector" $gpuKey) $gpu.baseSelector (printf "%s.nodeSelector" $gpuKey) $gpu.nodeSelector (printf "%s.cpu.discovery.nodeSelector" $place) $cpu.discovery.nodeSelector -}}
{{- range $name, $selector := $selectors -}}
{{- if and $selector (trim $selector) (or (regexMatch "\\(\\s*\\)" $selector) (not (regexMatch (printf "^\\s*%s(\\s*,\\s*%s)*\\s*$" $one $one) $selector))) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $name "found" ($selector | quote) "advice" "write a label selector as kubectl -l takes it, such as nodepool=gpu-a100 or pool in (a,b),!spot" ) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch (printf "^\\s*%s\\s*(,\\s*%s\\s*)*$" $key $key) ($gpu.gpuCountSelector | default "")) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.gpuCountSelector" $gpuKey) "found" ($gpu.gpuCountSelector | default "" | quote) "advice" "write the keys of labels, separated by commas, such as nvidia.com/gpu.count" ) -}}
{{- end -}}
{{- with $cpu.reportNamespaceOverride -}}
{{- if not $cpu.reportNamespaced -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.cpu.reportNamespaceOverride" $place) "found" (printf "%s, but reportNamespaced is false" .) "advice" "set reportNamespaced: true, or leave it out") -}}
{{- else if and (ne . $.context.Release.Namespace) (not $glue.serviceAccountClusterAccess) -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "%s.cpu.reportNamespaceOverride" $place) "found" (printf "%s, which is not the release's namespace" .) "advice" "set agentk8sglue.serviceAccountClusterAccess: true, which lets the chart make a Role in it, or leave it out") -}}
{{- end -}}
{{- end -}}
{{- end -}}
