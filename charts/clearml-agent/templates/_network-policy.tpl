{{/*
Spec of a NetworkPolicy. What comes in is always limited; what goes out only by rules of the user: a policy cannot name
hosts, so the chart cannot name the servers. Takes {podLabels, ingress, egress}: labels as text, lists of rules.
*/}}
{{- define "clearml-agent.networkPolicySpec" -}}
podSelector:
  matchLabels:
    {{- .podLabels | nindent 4 }}
policyTypes:
  - Ingress
  {{- if .egress }}
  - Egress
  {{- end }}
ingress:
  {{- toYaml (.ingress | default list) | nindent 2 }}
{{- with .egress }}
egress:
  - ports:
      - port: 53
        protocol: UDP
      - port: 53
        protocol: TCP
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
