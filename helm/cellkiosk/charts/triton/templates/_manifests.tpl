{{- define "triton.manifests" -}}
{{- if eq .Values.triton.mode "shared" }}
{{- $values := .Values.triton }}
{{- $name := printf "%s-triton" (include "cellkiosk.name" .) }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "triton" "storage" true) }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "triton" $name) | nindent 2 }}
spec:
  {{- if not (and $values.autoscaling.enabled .Values.autoscaler.enabled) }}
  replicas: {{ $values.replicas }}
  {{- end }}
  strategy:
    # A GPU that is taken cannot start the next version first.
    rollingUpdate: {maxUnavailable: 1, maxSurge: {{ ternary 0 1 (gt (int $values.gpus) 0) }}}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "triton") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "triton") | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: triton
        {{- include "cellkiosk.scrape" (list . "8002") | nindent 8 }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "priority" "working" "grace" (add $values.graceSeconds 10) "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      {{- with $values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- include "cellkiosk.spread" (list . "triton") | nindent 6 }}
      containers:
        {{- include "triton.container" . | nindent 8 }}
      volumes:
        - {name: tmp, emptyDir: {}}
        {{- include "triton.volumes" . | trim | nindent 8 }}
---
# Headless: each consumer keeps a channel to every server and takes the least busy.
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "triton" $name) | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "cellkiosk.selector" (list . "triton") | nindent 4 }}
  ports:
    - {name: grpc, port: 8001, targetPort: grpc, protocol: TCP}
    - {name: http, port: 8000, targetPort: http, protocol: TCP}
    - {name: metrics, port: 8002, targetPort: metrics, protocol: TCP}
---
{{ include "cellkiosk.disruption" (dict "top" . "component" "triton" "name" $name "maxUnavailable" $values.maxUnavailable) }}
{{- end }}
{{ end -}}

{{/* The server, alone in its pod or beside a consumer. */}}
{{- define "triton.container" -}}
{{- $values := .Values.triton -}}
- name: triton
  image: {{ include "cellkiosk.image" (list . "triton") }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  args:
    - -m
    - services.triton
    {{- range $values.repositories }}
    - --repository={{ . }}
    {{- end }}
    - --host=0.0.0.0
    - --grpc-port=8001
    - --http-port=8000
    - --metrics-port=8002
    - --threads={{ $values.threads }}
    - --grace={{ $values.graceSeconds }}
    - --watch-seconds={{ $values.watchSeconds }}
    - --hung-seconds={{ $values.hungSeconds }}
    - --load-seconds={{ $values.startSeconds }}
    - --verbose={{ $values.verbose }}
  ports:
    - {name: grpc, containerPort: 8001, protocol: TCP}
    - {name: http, containerPort: 8000, protocol: TCP}
    - {name: metrics, containerPort: 8002, protocol: TCP}
  startupProbe:
    httpGet: {path: /v2/health/ready, port: http}
    periodSeconds: 5
    failureThreshold: {{ div (add $values.startSeconds 4) 5 }}
  livenessProbe:
    # Whether the server itself answers; that its models do is looked after by the watcher beside it (hungSeconds), which
    # knows a busy one from one that hangs.
    httpGet: {path: /v2/health/live, port: http}
    periodSeconds: 10
    timeoutSeconds: 10
    failureThreshold: 6
  readinessProbe:
    # Triton calls a model ready whose process has died, so each model is made to predict a small image.
    exec: {command: [python, -m, services.triton.health, --server, "http://127.0.0.1:8000"]}
    periodSeconds: 15
    timeoutSeconds: 15
    failureThreshold: 2
  resources:
    {{- $resources := deepCopy $values.resources }}
    {{- if $values.gpus }}
    {{- $_ := set $resources "limits" (set ($resources.limits | default dict) $values.gpuResource (int $values.gpus)) }}
    {{- end }}
    {{- toYaml $resources | nindent 4 }}
  securityContext:
    {{- include "cellkiosk.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: shm, mountPath: /dev/shm}
    {{- if $values.modelsClaim }}
    - {name: models, mountPath: /models, readOnly: true}
    {{- end }}
{{- end -}}

{{- define "triton.volumes" -}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .Values.triton.sharedMemory }}}
{{- with .Values.triton.modelsClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end }}
{{- end -}}
