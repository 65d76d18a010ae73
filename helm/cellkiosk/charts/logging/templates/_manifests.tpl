{{/* Fluent Bit on each node. It must read the node's log files: the one thing here that is not "restricted". */}}
{{- define "logging.manifests" -}}
{{- $values := .Values.logging }}
{{- $name := printf "%s-logging" (include "cellkiosk.name" .) }}
{{- $namespace := $values.namespace | default .Release.Namespace }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "cellkiosk.labels" (list . "logging") | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "cellkiosk.labels" (list . "logging") | nindent 4 }}
data:
  fluent-bit.yaml: |
    {{- include "logging.config" . | nindent 4 }}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "cellkiosk.labels" (list . "logging") | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "logging") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "logging") | nindent 8 }}
      annotations:
        checksum/config: {{ include "logging.config" . | sha256sum }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {runAsUser: 0, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: fluent-bit
          image: {{ $values.image }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args: [--config=/config/fluent-bit.yaml]
          {{- with $values.existingSecret }}
          env:
            - name: TARGET_USER
              valueFrom: {secretKeyRef: {name: {{ . }}, key: user}}
            - name: TARGET_PASSWORD
              valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
          {{- end }}
          ports:
            - {name: http, containerPort: 2020, protocol: TCP}
          livenessProbe:
            httpGet: {path: /, port: http}
            periodSeconds: 30
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL], add: [DAC_READ_SEARCH]}
          volumeMounts:
            - {name: config, mountPath: /config, readOnly: true}
            - {name: logs, mountPath: /var/log, readOnly: true}
            - {name: state, mountPath: /state}
      volumes:
        - name: config
          configMap: {name: {{ $name }}}
        - name: logs
          hostPath: {path: /var/log}
        - {name: state, emptyDir: {}}
{{ end -}}

{{- define "logging.config" -}}
{{- $values := .Values.logging -}}
service:
  flush: 1
  http_server: true
  http_listen: 0.0.0.0
  http_port: 2020
# None is known but those that are named here.
parsers:
  - name: event
    format: json
    time_key: timestamp
    time_format: "%Y-%m-%dT%H:%M:%S.%LZ"
    time_keep: true
pipeline:
  inputs:
    - name: tail
      path: /var/log/pods/{{ .Release.Namespace }}_{{ include "cellkiosk.name" . }}-*/*/*.log
      path_key: file
      multiline.parser: cri
      db: /state/positions.db
      mem_buf_limit: 16MB
      tag: cellkiosk
  filters:
    # Our lines are JSON with one event name each; others stay text in `log`.
    - name: parser
      match: cellkiosk
      key_name: log
      parser: event
      reserve_data: true
  outputs:
    {{- if eq $values.target "loki" }}
    - name: loki
      labels: job=cellkiosk, namespace={{ .Release.Namespace }}, $service
      {{- if $values.existingSecret }}
      http_user: ${TARGET_USER}
      http_passwd: ${TARGET_PASSWORD}
      {{- end }}
    {{- else }}
    - name: es
      logstash_format: true
      logstash_prefix: cellkiosk
      suppress_type_name: true
      {{- if $values.existingSecret }}
      http_user: ${TARGET_USER}
      http_passwd: ${TARGET_PASSWORD}
      {{- end }}
    {{- end }}
      match: cellkiosk
      host: {{ $values.host }}
      port: {{ $values.port }}
      tls: {{ ternary "on" "off" $values.tls }}
{{- end -}}
