{{/* Certificates of the controller and of task pods: values customCertificates. */}}

{{/* What the ConfigMap has: PEM, "" for none. */}}
{{- define "clearml-agent.certificates" -}}
{{- with .Values.customCertificates.overrideCaCertificatesCrt -}}
{{- trim . }}
{{ end -}}
{{- range .Values.customCertificates.extraCerts -}}
# {{ .alias }}
{{ trim .pem }}
{{ end -}}
{{- end -}}

{{/* "true" when task pods get an init container of the controller's image. */}}
{{- define "clearml-agent.preparesTasks" -}}
{{- if or .Values.bootstrap.enabled (and .Values.customCertificates.propagateToTasks .Values.customCertificates.extraCerts) -}}
true
{{- end -}}
{{- end -}}

{{/* Joins the image's public certificates and the extra ones in the controller's pod. The image's user need not be root. */}}
{{- define "clearml-agent.certificatesInitContainer" -}}
name: clearml-k8s-certificates
image: {{ include "clearml-agent.image" . | quote }}
imagePullPolicy: {{ .Values.agentk8sglue.image.pullPolicy }}
command:
  - /bin/sh
  - -c
  - cat /clearml-k8s/ca-certificates.crt /certificates/ca-certificates.crt >/joined/ca-certificates.crt
terminationMessagePolicy: FallbackToLogsOnError
{{- with .Values.agentk8sglue.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.agentk8sglue.containerSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: clearml-k8s-certificates
    mountPath: /certificates
    readOnly: true
  - name: clearml-k8s-joined-certificates
    mountPath: /joined
{{- end -}}
