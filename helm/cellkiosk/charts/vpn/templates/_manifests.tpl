{{/* WireGuard that ends in a process, not in the kernel: people reach the dashboards, and nothing else. */}}
{{- define "vpn.manifests" -}}
{{- $values := .Values.vpn }}
{{- $name := printf "%s-vpn" (include "cellkiosk.name" .) }}
{{- if not $values.peers }}
{{- fail "vpn.peers must name at least one person (publicKey, address)" }}
{{- end }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "vpn") }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "cellkiosk.metadata" (list . "vpn" $name) | nindent 2 }}
data:
  wireproxy.conf: |
    {{- include "vpn.config" . | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "vpn" $name) | nindent 2 }}
spec:
  replicas: 1
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "vpn") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "vpn") | nindent 8 }}
      annotations:
        checksum/config: {{ include "vpn.config" . | sha256sum }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "priority" "working" "grace" 10) | nindent 6 }}
      containers:
        - name: vpn
          image: {{ $values.image }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args: [--config, /config/wireproxy.conf, --info, "0.0.0.0:9080"]
          env:
            - name: PRIVATE_KEY
              valueFrom: {secretKeyRef: {name: {{ required "vpn.existingSecret must name a Secret with the server's key in privateKey" $values.existingSecret }}, key: privateKey}}
          ports:
            - {name: wireguard, containerPort: {{ $values.port }}, protocol: UDP}
            - {name: info, containerPort: 9080, protocol: TCP}
          livenessProbe:
            httpGet: {path: /metrics, port: info}
            periodSeconds: 30
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /config, readOnly: true}
      volumes:
        - name: config
          configMap: {name: {{ $name }}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "vpn" $name) | nindent 2 }}
spec:
  type: {{ $values.serviceType }}
  selector:
    {{- include "cellkiosk.selector" (list . "vpn") | nindent 4 }}
  ports:
    - {name: wireguard, port: {{ $values.port }}, targetPort: wireguard, protocol: UDP}
{{ end -}}

{{- define "vpn.config" -}}
{{- $name := include "cellkiosk.name" . -}}
[Interface]
PrivateKey = $PRIVATE_KEY
Address = {{ .Values.vpn.address }}
ListenPort = {{ .Values.vpn.port }}
{{- range .Values.vpn.peers }}

[Peer]
PublicKey = {{ .publicKey }}
AllowedIPs = {{ .address }}
{{- end }}
{{- if .Values.observability.enabled }}
{{- if .Values.observability.grafana.enabled }}

[TCPServerTunnel]
ListenPort = 3000
Target = {{ $name }}-grafana.{{ .Release.Namespace }}.svc:3000
{{- end }}
{{- if .Values.observability.prometheus.enabled }}

[TCPServerTunnel]
ListenPort = 9090
Target = {{ $name }}-prometheus.{{ .Release.Namespace }}.svc:9090
{{- end }}
{{- end }}
{{- end -}}
