{{/* A small Grafana with our dashboards, on the Prometheus above. */}}
{{- define "observability.grafana" -}}
{{- $values := .Values.observability.grafana }}
{{- $release := include "cellkiosk.name" . }}
{{- $name := printf "%s-grafana" $release }}
{{- if not .Values.observability.prometheus.enabled }}
{{- fail "observability.grafana.enabled needs observability.prometheus.enabled; an existing Grafana finds the dashboards by observability.dashboards.label" }}
{{- end }}
---
{{ include "cellkiosk.serviceAccount" (dict "top" . "component" "grafana") }}
{{- if not $values.existingSecret }}
{{- $found := lookup "v1" "Secret" .Release.Namespace $name }}
---
apiVersion: v1
kind: Secret
metadata:
  {{- include "cellkiosk.metadata" (list . "grafana" $name) | nindent 2 }}
type: Opaque
data:
  user: {{ b64enc "admin" }}
  password: {{ dig "data" "password" (randAlphaNum 24 | b64enc) ($found | default dict) }}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "cellkiosk.metadata" (list . "grafana" $name) | nindent 2 }}
data:
  source.yaml: |
    apiVersion: 1
    datasources:
      - name: Prometheus
        uid: prometheus
        type: prometheus
        url: http://{{ $release }}-prometheus.{{ .Release.Namespace }}.svc:9090
        isDefault: true
        jsonData: {timeInterval: {{ .Values.observability.scrapeSeconds }}s}
  boards.yaml: |
    apiVersion: 1
    providers:
      - name: cellkiosk
        folder: CellKiosk
        type: file
        options: {path: /dashboards}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "grafana" $name) | nindent 2 }}
spec:
  replicas: 1
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "grafana") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "grafana") | nindent 8 }}
      annotations:
        checksum/dashboards: {{ .Files.Glob "files/dashboards/*.json" | toYaml | sha256sum }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "priority" "working" "grace" 30) | nindent 6 }}
      containers:
        - name: grafana
          image: {{ $values.image }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          env:
            - name: GF_SECURITY_ADMIN_USER
              valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | default $name }}, key: user}}
            - name: GF_SECURITY_ADMIN_PASSWORD
              valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | default $name }}, key: password}}
            - {name: GF_ANALYTICS_REPORTING_ENABLED, value: "false"}
            - {name: GF_ANALYTICS_CHECK_FOR_UPDATES, value: "false"}
            - {name: GF_PATHS_DATA, value: /tmp/grafana}
            # Plugins would be fetched from outside, which the network policy forbids; the dashboards need none.
            - {name: GF_PATHS_PLUGINS, value: /tmp/grafana/plugins}
            - {name: GF_PLUGINS_PREINSTALL_DISABLED, value: "true"}
          ports:
            - {name: http, containerPort: 3000, protocol: TCP}
          livenessProbe:
            httpGet: {path: /api/health, port: http}
            periodSeconds: 15
            failureThreshold: 8
          readinessProbe:
            httpGet: {path: /api/health, port: http}
            periodSeconds: 5
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: provisioning, mountPath: /etc/grafana/provisioning/datasources/source.yaml, subPath: source.yaml, readOnly: true}
            - {name: provisioning, mountPath: /etc/grafana/provisioning/dashboards/boards.yaml, subPath: boards.yaml, readOnly: true}
            - {name: dashboards, mountPath: /dashboards, readOnly: true}
      volumes:
        - {name: tmp, emptyDir: {}}
        - name: provisioning
          configMap: {name: {{ $name }}}
        - name: dashboards
          projected:
            sources:
              {{- range $path, $_ := .Files.Glob "files/dashboards/*.json" }}
              - configMap: {name: {{ $release }}-dashboard-{{ base $path | trimSuffix ".json" }}}
              {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "grafana" $name) | nindent 2 }}
spec:
  selector:
    {{- include "cellkiosk.selector" (list . "grafana") | nindent 4 }}
  ports:
    - {name: http, port: 3000, targetPort: http, protocol: TCP}
{{- end -}}
