{{/*
Spec of the controller's pod and of the test pod, which runs another command with the same settings.
Takes {context, args, probes}.
*/}}
{{- define "clearml-agent.controllerPodSpec" -}}
{{- $context := .context -}}
serviceAccountName: {{ include "clearml-agent.controllerServiceAccountName" $context | quote }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with (include "clearml-agent.pullSecrets" $context | fromJson).names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $context.Values.agentk8sglue.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $context.Values.agentk8sglue.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $context.Values.agentk8sglue.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $context.Values.agentk8sglue.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $context.Values.agentk8sglue.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $context.Values.agentk8sglue.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $certificates := include "clearml-agent.certificates" $context }}
{{- $joins := $context.Values.customCertificates.extraCerts }}
{{- if or $joins $context.Values.agentk8sglue.extraInitContainers }}
initContainers:
  {{- if $joins }}
  - {{ include "clearml-agent.certificatesInitContainer" $context | nindent 4 | trim }}
  {{- end }}
  {{- with $context.Values.agentk8sglue.extraInitContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  - name: controller
    image: {{ include "clearml-agent.image" $context | quote }}
    imagePullPolicy: {{ $context.Values.agentk8sglue.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
    env:
      - name: CLEARML_K8S_CREDENTIALS_DIR
        value: /etc/clearml-k8s-credentials
      - name: CLEARML_K8S_POD_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      {{- if include "clearml-agent.confSecretName" $context }}
      - name: CLEARML_K8S_TASK_CONF
        value: /etc/clearml-k8s-conf/clearml.conf
      {{- end }}
      {{- if $certificates }}
      {{- range list "REQUESTS_CA_BUNDLE" "SSL_CERT_FILE" }}
      - name: {{ . }}
        value: /etc/clearml-k8s-certificates/ca-certificates.crt
      {{- end }}
      {{- end }}
      {{- with $context.Values.agentk8sglue.extraEnvs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- if .probes }}
    ports:
      - name: http
        containerPort: 8080
    livenessProbe:
      httpGet:
        path: /healthz
        port: http
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet:
        path: /readyz
        port: http
      periodSeconds: 5
      timeoutSeconds: 5
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    {{- with $context.Values.agentk8sglue.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $context.Values.agentk8sglue.containerSecurityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: clearml-k8s-config
        mountPath: /etc/clearml-k8s
        readOnly: true
      - name: clearml-k8s-credentials
        mountPath: /etc/clearml-k8s-credentials
        readOnly: true
      {{- if include "clearml-agent.confSecretName" $context }}
      - name: clearml-k8s-conf
        mountPath: /etc/clearml-k8s-conf
        readOnly: true
      {{- end }}
      - name: clearml-k8s-tmp
        mountPath: /tmp
      {{- if $certificates }}
      - name: {{ ternary "clearml-k8s-joined-certificates" "clearml-k8s-certificates" (not (empty $joins)) }}
        mountPath: /etc/clearml-k8s-certificates
        readOnly: true
      {{- end }}
      {{- range $context.Values.agentk8sglue.fileMounts }}
      - name: clearml-k8s-files
        mountPath: {{ include "clearml-agent.filePath" . | quote }}
        subPath: {{ include "clearml-agent.fileKey" . | quote }}
        readOnly: true
      {{- end }}
      {{- with $context.Values.agentk8sglue.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $context.Values.agentk8sglue.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: clearml-k8s-config
    configMap:
      name: {{ include "clearml-agent.controllerName" $context | quote }}
  # Files, not variables: a changed Secret reaches the running controller.
  - name: clearml-k8s-credentials
    secret:
      secretName: {{ include "clearml-agent.credentialsSecretName" $context | quote }}
      items:
        - key: agentk8sglue_key
          path: access_key
        - key: agentk8sglue_secret
          path: secret_key
  {{- with include "clearml-agent.confSecretName" $context }}
  # Where it is missing the controller runs, and says so; so would the pods of tasks wait for it.
  - name: clearml-k8s-conf
    secret:
      secretName: {{ . | quote }}
      optional: true
      items:
        - key: clearml.conf
          path: clearml.conf
  {{- end }}
  - name: clearml-k8s-tmp
    emptyDir: {}
  {{- if $certificates }}
  - name: clearml-k8s-certificates
    configMap:
      name: {{ include "clearml-agent.certificatesName" $context | quote }}
  {{- end }}
  {{- if $joins }}
  - name: clearml-k8s-joined-certificates
    emptyDir: {}
  {{- end }}
  {{- if $context.Values.agentk8sglue.fileMounts }}
  - name: clearml-k8s-files
    secret:
      secretName: {{ include "clearml-agent.controllerFilesSecretName" $context | quote }}
  {{- end }}
  {{- with $context.Values.agentk8sglue.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with $context.Values.agentk8sglue.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
