{{/*
What the schema cannot say: collects all problems of the values and fails once, naming for each the key, what was found
and what to write instead. Values of secrets are never shown.
*/}}
{{- define "clearml-agent.validate" -}}
{{- $state := dict "problems" list -}}
{{- include "clearml-agent.validate.placeholders" (dict "state" $state "path" "" "value" .Values) -}}
{{- include "clearml-agent.validate.credentials" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.pullSecret" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.image" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.queues" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.controller" (dict "state" $state "values" .Values) -}}
{{- include "clearml-agent.validate.labels" (dict "state" $state "values" .Values) -}}
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
{{- range $index, $env := $glue.extraEnvs -}}
{{- if has $env.name (list "CLEARML_API_ACCESS_KEY" "CLEARML_API_SECRET_KEY" "CLEARML_K8S_CREDENTIALS_DIR") -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.extraEnvs[%d]" $index) "found" $env.name "advice" "the chart gives the controller its credentials; use clearml.existingAgentk8sglueSecret, or clearml.agentk8sglueKey and clearml.agentk8sglueSecret") -}}
{{- end -}}
{{- end -}}
{{- range $index, $volume := $glue.volumes -}}
{{- if hasPrefix "clearml-k8s-" $volume.name -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.volumes[%d]" $index) "found" (printf "the name %s" $volume.name) "advice" "names that begin with clearml-k8s- belong to the chart; choose another one") -}}
{{- end -}}
{{- end -}}
{{- range $index, $mount := $glue.volumeMounts -}}
{{- if has (trimSuffix "/" $mount.mountPath) (list "/tmp" "/etc/clearml-k8s" "/etc/clearml-k8s-credentials") -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" (printf "agentk8sglue.volumeMounts[%d]" $index) "found" (printf "the mountPath %s" $mount.mountPath) "advice" "the chart mounts its own volume there; choose another path") -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := $glue.annotations -}}
{{- if hasPrefix "checksum/" $key -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" "agentk8sglue.annotations" "found" $key "advice" "the prefix checksum/ belongs to the chart; choose another key") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clearml-agent.validate.labels" -}}
{{- $state := .state -}}
{{- $glue := .values.agentk8sglue -}}
{{- $places := dict "agentk8sglue.labels" $glue.labels "agentk8sglue.basePodTemplate.labels" (get ($glue.basePodTemplate | default dict) "labels") -}}
{{- range $name, $queue := $glue.queues -}}
{{- $_ := set $places (printf "agentk8sglue.queues.%s.templateOverrides.labels" $name) (get (get ($queue | default dict) "templateOverrides" | default dict) "labels") -}}
{{- end -}}
{{- range $place, $labels := $places -}}
{{- range $key, $_ := $labels | default dict -}}
{{- if regexMatch (include "clearml-agent.reservedLabels" $state) $key -}}
{{- include "clearml-agent.validate.add" (dict "state" $state "key" $place "found" $key "advice" "this label belongs to the chart and its controller; choose another key") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
