{{/* A small Prometheus for a cluster that has none. */}}
{{- define "observability.prometheus" -}}
{{- $values := .Values.observability.prometheus }}
{{- $name := printf "%s-prometheus" (include "cellkiosk.name" .) }}
---
{{ include "cellkiosk.serviceAccount" (dict "top" . "component" "prometheus") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "cellkiosk.metadata" (list . "prometheus" $name) | nindent 2 }}
rules:
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch]
---
{{ include "cellkiosk.roleBinding" (dict "top" . "name" $name "component" "prometheus") }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "cellkiosk.metadata" (list . "prometheus" $name) | nindent 2 }}
data:
  prometheus.yaml: |
    {{- include "observability.scrapes" . | nindent 4 }}
  rules.yaml: |
    {{- include "observability.rules" . | nindent 4 }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "cellkiosk.metadata" (list . "prometheus" $name) | nindent 2 }}
spec:
  replicas: 1
  serviceName: {{ $name }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "prometheus") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "prometheus") | nindent 8 }}
      annotations:
        checksum/config: {{ printf "%s%s" (include "observability.scrapes" .) (include "observability.rules" .) | sha256sum }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "token" true "priority" "working" "grace" 60) | nindent 6 }}
      containers:
        - name: prometheus
          image: {{ $values.image }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args:
            - --config.file=/config/prometheus.yaml
            - --storage.tsdb.path=/prometheus
            - --storage.tsdb.retention.time={{ $values.retention }}
            - --web.listen-address=:9090
          ports:
            - {name: http, containerPort: 9090, protocol: TCP}
          startupProbe:
            httpGet: {path: /-/ready, port: http}
            periodSeconds: 2
            failureThreshold: 150
          livenessProbe:
            httpGet: {path: /-/healthy, port: http}
            periodSeconds: 15
          readinessProbe:
            httpGet: {path: /-/ready, port: http}
            periodSeconds: 5
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /config, readOnly: true}
            - {name: data, mountPath: /prometheus}
      volumes:
        - name: config
          configMap: {name: {{ $name }}}
        {{- if not $values.size }}
        - {name: data, emptyDir: {}}
        {{- end }}
  {{- if $values.size }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $values.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $values.size }}}}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "prometheus" $name) | nindent 2 }}
spec:
  selector:
    {{- include "cellkiosk.selector" (list . "prometheus") | nindent 4 }}
  ports:
    - {name: http, port: 9090, targetPort: http, protocol: TCP}
{{- end -}}

{{- define "observability.scrapes" -}}
{{- $values := .Values.observability -}}
global:
  scrape_interval: {{ $values.scrapeSeconds }}s
  evaluation_interval: {{ $values.scrapeSeconds }}s
rule_files: [/config/rules.yaml]
{{- with $values.prometheus.alertmanagers }}
alerting:
  alertmanagers:
    - static_configs:
        - targets:
            {{- toYaml . | nindent 12 }}
{{- end }}
scrape_configs:
  - job_name: cellkiosk
    kubernetes_sd_configs:
      - role: pod
        namespaces: {names: [{{ .Release.Namespace }}]}
        selectors:
          - role: pod
            label: app.kubernetes.io/name=cellkiosk,app.kubernetes.io/instance={{ .Release.Name }}
    relabel_configs:
      # Of each pod, only the ports that serve metrics.
      - source_labels: [__meta_kubernetes_pod_container_port_name]
        regex: health|metrics|exporter
        action: keep
      - source_labels: [__meta_kubernetes_pod_label_app_kubernetes_io_component]
        replacement: cellkiosk-$1
        target_label: job
      # A model server beside a consumer is told apart by its port.
      - source_labels: [__meta_kubernetes_pod_container_port_name]
        regex: metrics
        replacement: cellkiosk-triton
        target_label: job
      - source_labels: [__meta_kubernetes_namespace]
        target_label: namespace
      - source_labels: [__meta_kubernetes_pod_name]
        target_label: pod
{{- with $values.prometheus.dcgmTargets }}
  - job_name: dcgm
    honor_labels: true # the exporter names the namespace of the pod that uses a GPU
    static_configs:
      - targets:
          {{- toYaml . | nindent 10 }}
        labels: {namespace: {{ $.Release.Namespace }}}
{{- end }}
{{- end -}}
