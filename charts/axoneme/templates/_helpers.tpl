{{/* Labels of every object. Takes a dict: root, component (operator, node or config). */}}
{{- define "axoneme.labels" -}}
{{ include "axoneme.selector" . }}
app.kubernetes.io/part-of: axoneme
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* Labels by which the pods of a component are found; the operator finds its own replicas by the same one. */}}
{{- define "axoneme.selector" -}}
app.kubernetes.io/name: {{ eq .component "node" | ternary "axoneme" (printf "axoneme-%s" .component) }}
{{- end }}

{{/* An image by digest if there is one, else by tag. Takes the image's values. */}}
{{- define "axoneme.image" -}}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}{{ else }}{{ printf "%s:%s" .repository (.tag | toString) }}{{ end }}
{{- end }}

{{/* The settings of the operator, as it reads them. */}}
{{- define "axoneme.operator.yaml" -}}
cluster:
  name: {{ .Values.cluster.name | quote }}
  id: {{ .Values.cluster.id | int }}
ipam:
  mode: {{ .Values.ipam.mode }}
  operator:
    clusterPoolIPv4PodCIDRList: {{ .Values.ipam.operator.clusterPoolIPv4PodCIDRList | toJson }}
    clusterPoolIPv4MaskSize: {{ .Values.ipam.operator.clusterPoolIPv4MaskSize | int }}
    clusterPoolIPv6PodCIDRList: {{ .Values.ipam.operator.clusterPoolIPv6PodCIDRList | toJson }}
    clusterPoolIPv6MaskSize: {{ .Values.ipam.operator.clusterPoolIPv6MaskSize | int }}
routingMode: {{ .Values.routingMode }}
tunnelPort: {{ .Values.tunnelPort | int }}
MTU: {{ .Values.MTU | int }}
ipv4:
  enabled: {{ .Values.ipv4.enabled }}
ipv6:
  enabled: {{ .Values.ipv6.enabled }}
enableIPv4Masquerade: {{ .Values.enableIPv4Masquerade }}
enableIPv6Masquerade: {{ .Values.enableIPv6Masquerade }}
policyEnforcementMode: {{ .Values.policyEnforcementMode }}
operator:
  port: {{ .Values.operator.port | int }}
  healthPort: {{ .Values.operator.healthPort | int }}
  metricsPort: {{ .Values.operator.prometheus.port | int }}
  podSelector: {{ include "axoneme.selector" (dict "component" "operator") | replace ": " "=" }}
  nodeServiceAccount: axoneme-node
  nodeCertificateSeconds: {{ .Values.operator.nodeCertificateSeconds | int }}
{{- end }}

{{/* The settings of the node daemon, as it reads them. Everything that nodes have in common comes from the operator. */}}
{{- define "axoneme.node.yaml" -}}
healthPort: {{ .Values.healthPort | int }}
metricsPort: {{ .Values.prometheus.port | int }}
cgroupRoot: /host/cgroup
sysctlRoot: /host/proc/sys
{{- with .Values.bpf }}
{{- if or .ctTcpMax .ctAnyMax .natMax .sockRevNatMax }}
sizes:
  {{- with .ctTcpMax }}
  ctTcp: {{ . | int }}
  {{- end }}
  {{- with .ctAnyMax }}
  ctAny: {{ . | int }}
  {{- end }}
  {{- with .natMax }}
  nat: {{ . | int }}
  {{- end }}
  {{- with .sockRevNatMax }}
  sockReverse: {{ . | int }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What values.schema.json cannot say. */}}
{{- define "axoneme.validate" -}}
{{- if not (or .Values.ipv4.enabled .Values.ipv6.enabled) }}
{{- fail "ipv4.enabled and ipv6.enabled are both false: pods need at least one address family" }}
{{- end }}
{{- if and .Values.ipv4.enabled (not .Values.ipam.operator.clusterPoolIPv4PodCIDRList) }}
{{- fail "ipam.operator.clusterPoolIPv4PodCIDRList is empty although ipv4.enabled is true" }}
{{- end }}
{{- if and .Values.ipv6.enabled (not .Values.ipam.operator.clusterPoolIPv6PodCIDRList) }}
{{- fail "ipam.operator.clusterPoolIPv6PodCIDRList is empty although ipv6.enabled is true" }}
{{- end }}
{{- if and .Values.k8sServiceHost (not .Values.k8sServicePort) }}
{{- fail "k8sServiceHost is set without k8sServicePort" }}
{{- end }}
{{- $ports := list (int .Values.operator.port) (int .Values.operator.healthPort) (int .Values.operator.prometheus.port) (int .Values.healthPort) (int .Values.prometheus.port) }}
{{- if ne (len ($ports | uniq)) (len $ports) }}
{{- fail (printf "operator.port, operator.healthPort, operator.prometheus.port, healthPort and prometheus.port share the host's network and must differ, found %v" $ports) }}
{{- end }}
{{- end }}
