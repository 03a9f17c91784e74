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
  multiPoolPreAllocation: {{ .Values.ipam.multiPoolPreAllocation | quote }}
  operator:
    clusterPoolIPv4PodCIDRList: {{ .Values.ipam.operator.clusterPoolIPv4PodCIDRList | toJson }}
    clusterPoolIPv4MaskSize: {{ .Values.ipam.operator.clusterPoolIPv4MaskSize | int }}
    clusterPoolIPv6PodCIDRList: {{ .Values.ipam.operator.clusterPoolIPv6PodCIDRList | toJson }}
    clusterPoolIPv6MaskSize: {{ .Values.ipam.operator.clusterPoolIPv6MaskSize | int }}
    autoCreateCiliumPodIPPools: {{ .Values.ipam.operator.autoCreateCiliumPodIPPools | toJson }}
routingMode: {{ .Values.routingMode }}
autoDirectNodeRoutes: {{ .Values.autoDirectNodeRoutes }}
directRoutingSkipUnreachable: {{ .Values.directRoutingSkipUnreachable }}
ipv4NativeRoutingCIDR: {{ .Values.ipv4NativeRoutingCIDR | quote }}
ipv6NativeRoutingCIDR: {{ .Values.ipv6NativeRoutingCIDR | quote }}
tunnelPort: {{ .Values.tunnelPort | int }}
underlayProtocol: {{ .Values.underlayProtocol }}
MTU: {{ .Values.MTU | int }}
ipv4:
  enabled: {{ .Values.ipv4.enabled }}
ipv6:
  enabled: {{ .Values.ipv6.enabled }}
enableIPv4Masquerade: {{ .Values.enableIPv4Masquerade }}
enableIPv6Masquerade: {{ .Values.enableIPv6Masquerade }}
ipMasqAgent:
  enabled: {{ .Values.ipMasqAgent.enabled }}
bpf:
  events:
    policyVerdict:
      enabled: {{ .Values.bpf.events.policyVerdict.enabled }}
bandwidthManager:
  enabled: {{ .Values.bandwidthManager.enabled }}
k8s:
  requireIPv4PodCIDR: {{ .Values.k8s.requireIPv4PodCIDR }}
  requireIPv6PodCIDR: {{ .Values.k8s.requireIPv6PodCIDR }}
k8sClusterNetworkPolicy:
  enabled: {{ .Values.k8sClusterNetworkPolicy.enabled }}
hostFirewall:
  enabled: {{ .Values.hostFirewall.enabled }}
  emergencyPorts: {{ .Values.hostFirewall.emergencyPorts | default list | toJson }}
policyEnforcementMode: {{ .Values.policyEnforcementMode }}
policyCIDRMatchMode: {{ .Values.policyCIDRMatchMode | default list | toJson }}
wellKnownIdentities:
  enabled: {{ .Values.wellKnownIdentities.enabled }}
fixedIdentityMapping:
  {{- range $id, $name := .Values.fixedIdentityMapping }}
  {{ $id }}: {{ $name | quote }}
  {{- else }} {}
  {{- end }}
agentNotReadyTaintKey: {{ .Values.agentNotReadyTaintKey | quote }}
operator:
  port: {{ .Values.operator.port | int }}
  healthPort: {{ .Values.operator.healthPort | int }}
  metricsPort: {{ .Values.operator.prometheus.port | int }}
  podSelector: {{ include "axoneme.selector" (dict "component" "operator") | replace ": " "=" }}
  nodePodSelector: {{ include "axoneme.selector" (dict "component" "node") | replace ": " "=" }}
  nodeServiceAccount: axoneme-node
  {{- with .Values.operator }}
  removeNodeTaints: {{ .removeNodeTaints }}
  setNodeTaints: {{ kindIs "bool" .setNodeTaints | ternary .setNodeTaints .removeNodeTaints }}
  setNodeNetworkStatus: {{ .setNodeNetworkStatus }}
  {{- end }}
  nodeCertificateSeconds: {{ .Values.operator.nodeCertificateSeconds | int }}
  identityGCInterval: {{ .Values.operator.identityGCInterval | quote }}
  identityHeartbeatTimeout: {{ .Values.operator.identityHeartbeatTimeout | quote }}
  nodeGCInterval: {{ .Values.operator.nodeGCInterval | quote }}
  endpointGCInterval: {{ .Values.operator.endpointGCInterval | quote }}
{{- end }}

{{/* The settings of the node daemon, as it reads them. Everything that nodes have in common comes from the operator. */}}
{{- define "axoneme.node.yaml" -}}
healthPort: {{ .Values.healthPort | int }}
metricsPort: {{ .Values.prometheus.port | int }}
cgroupRoot: /host/cgroup
sysctlRoot: /host/proc/sys
devices: {{ .Values.devices | toJson }}
cni:
  chainingMode: {{ .Values.cni.chainingMode }}
  chainingTarget: {{ .Values.cni.chainingTarget | quote }}
  exclusive: {{ .Values.cni.exclusive }}
  customConf: {{ .Values.cni.customConf }}
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
{{- $pools := eq .Values.ipam.mode "cluster-pool" }}
{{- if and $pools .Values.ipv4.enabled (not .Values.ipam.operator.clusterPoolIPv4PodCIDRList) }}
{{- fail "ipam.operator.clusterPoolIPv4PodCIDRList is empty although ipv4.enabled is true" }}
{{- end }}
{{- if and $pools .Values.ipv6.enabled (not .Values.ipam.operator.clusterPoolIPv6PodCIDRList) }}
{{- fail "ipam.operator.clusterPoolIPv6PodCIDRList is empty although ipv6.enabled is true" }}
{{- end }}
{{- $native := eq .Values.routingMode "native" }}
{{- if and .Values.autoDirectNodeRoutes (not $native) }}
{{- fail "autoDirectNodeRoutes is true, which needs routingMode native" }}
{{- end }}
{{- if and .Values.directRoutingSkipUnreachable (not .Values.autoDirectNodeRoutes) }}
{{- fail "directRoutingSkipUnreachable is true, which has no effect without autoDirectNodeRoutes" }}
{{- end }}
{{- if and (not $native) (not (index .Values .Values.underlayProtocol).enabled) }}
{{- fail (printf "underlayProtocol is %s although %s.enabled is false" .Values.underlayProtocol .Values.underlayProtocol) }}
{{- end }}
{{- if and .Values.ipv4NativeRoutingCIDR (not .Values.ipv4.enabled) }}
{{- fail "ipv4NativeRoutingCIDR is set although ipv4.enabled is false" }}
{{- end }}
{{- if and .Values.ipv6NativeRoutingCIDR (not .Values.ipv6.enabled) }}
{{- fail "ipv6NativeRoutingCIDR is set although ipv6.enabled is false" }}
{{- end }}
{{- if and (or .Values.k8s.requireIPv4PodCIDR .Values.k8s.requireIPv6PodCIDR) (ne .Values.ipam.mode "kubernetes") }}
{{- fail "k8s.requireIPv4PodCIDR and k8s.requireIPv6PodCIDR need ipam.mode kubernetes" }}
{{- end }}
{{- if or (and .Values.k8s.requireIPv4PodCIDR (not .Values.ipv4.enabled)) (and .Values.k8s.requireIPv6PodCIDR (not .Values.ipv6.enabled)) }}
{{- fail "k8s.requireIPv4PodCIDR and k8s.requireIPv6PodCIDR need their family: ipv4.enabled, ipv6.enabled" }}
{{- end }}
{{- $masquerades := or (and .Values.ipv4.enabled .Values.enableIPv4Masquerade) (and .Values.ipv6.enabled .Values.enableIPv6Masquerade) }}
{{- if and .Values.ipMasqAgent.enabled (not $masquerades) }}
{{- fail "ipMasqAgent.enabled is true although nothing is masqueraded: enableIPv4Masquerade, enableIPv6Masquerade" }}
{{- end }}
{{- if and .Values.ipMasqAgent.config (not .Values.ipMasqAgent.enabled) }}
{{- fail "ipMasqAgent.config is set although ipMasqAgent.enabled is false" }}
{{- end }}
{{- if ne (eq .Values.cni.chainingMode "generic-veth") (eq .Values.ipam.mode "delegated-plugin") }}
{{- fail (printf "cni.chainingMode generic-veth and ipam.mode delegated-plugin need each other, found %s and %s" .Values.cni.chainingMode .Values.ipam.mode) }}
{{- end }}
{{- if and .Values.cni.chainingTarget (or .Values.cni.customConf (ne .Values.cni.chainingMode "generic-veth")) }}
{{- fail "cni.chainingTarget needs cni.chainingMode generic-veth, and cni.customConf false" }}
{{- end }}
{{- if and (eq .Values.cni.chainingMode "generic-veth") (not $native) }}
{{- fail "cni.chainingMode generic-veth needs routingMode native: the other plugin keeps the routes" }}
{{- end }}
{{- if and .Values.k8sServiceHost (not .Values.k8sServicePort) }}
{{- fail "k8sServiceHost is set without k8sServicePort" }}
{{- end }}
{{- $ports := list (int .Values.operator.port) (int .Values.operator.healthPort) (int .Values.operator.prometheus.port) (int .Values.healthPort) (int .Values.prometheus.port) }}
{{- if ne (len ($ports | uniq)) (len $ports) }}
{{- fail (printf "operator.port, operator.healthPort, operator.prometheus.port, healthPort and prometheus.port share the host's network and must differ, found %v" $ports) }}
{{- end }}
{{- end }}
