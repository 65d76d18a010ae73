{{- define "console.manifests" -}}
{{- $values := .Values.console }}
{{- $name := printf "%s-console" (include "cellkiosk.name" .) }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "console" "storage" true) }}
---
# Waits for `kubectl exec`; python as process 1 takes SIGTERM only where it asks for it.
{{ include "console.deployment" (dict "top" . "name" $name "what" "console" "replicas" 1 "env" $values.extraEnv
  "command" (list "python" "-c" "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, [s.SIGTERM]); s.sigwait([s.SIGTERM])")) }}
---
# Runs the benchmark once for each pod that it is scaled to, and rests at 0.
{{- $benchmark := $values.benchmark }}
{{- $env := list
  (dict "name" "FILE" "value" $benchmark.file)
  (dict "name" "COUNT" "value" (int $benchmark.count | toString))
  (dict "name" "JOB_TYPE" "value" $benchmark.jobType)
  (dict "name" "MODEL" "value" $benchmark.model)
  (dict "name" "START_DELAY" "value" (toString $benchmark.startDelay)) }}
{{- with $benchmark.existingSecret }}
{{- $env = append $env (dict "name" "KIOSK_API_KEY" "valueFrom" (dict "secretKeyRef" (dict "name" . "key" "api-key"))) }}
{{- end }}
{{ include "console.deployment" (dict "top" . "name" (printf "%s-benchmark" (include "cellkiosk.name" .)) "what" "benchmark"
  "replicas" (int $benchmark.replicas) "env" (concat $env $values.extraEnv)
  "command" (list "python" "-m" "services.console" "benchmark" "--stay" "--in-bucket" "--out=/tmp/benchmark")) }}
{{ end -}}

{{/* (dict top name what replicas command env) */}}
{{- define "console.deployment" -}}
{{- $top := .top }}
{{- $values := $top.Values.console -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list $top "console" .name) | nindent 2 }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list $top "console") | nindent 6 }}
      cellkiosk/part: {{ .what }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list $top "console") | nindent 8 }}
        cellkiosk/part: {{ .what }}
      {{- with include "cellkiosk.pricesMark" $top | trim }}
      annotations:
        {{- . | nindent 8 }}
      {{- end }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" $top "account" (printf "%s-console" (include "cellkiosk.name" $top)) "priority" "working" "grace" (add (ceil $top.Values.settings.grace | int) 5) "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      containers:
        - name: {{ .what }}
          image: {{ include "cellkiosk.image" (list $top "console") }}
          imagePullPolicy: {{ $top.Values.images.pullPolicy }}
          command:
            {{- toYaml .command | nindent 12 }}
          env:
            {{- /* What work is worth is told by `kiosk status`, too. */}}
            {{- include "cellkiosk.env" (list $top (dict "cost" $top.Values.frontend.settings.cost)) | trim | nindent 12 }}
            - name: KIOSK_URL
              value: http://{{ include "cellkiosk.name" $top }}-frontend.{{ $top.Release.Namespace }}.svc:{{ $top.Values.frontend.service.port }}
            {{- if eq $top.Values.triton.mode "shared" }}
            - name: KIOSK_MODEL_SERVER__URL
              value: {{ include "cellkiosk.modelServerUrl" $top | quote }}
            {{- end }}
            {{- if and $top.Values.observability.enabled $top.Values.observability.prometheus.enabled }}
            - name: KIOSK_PROMETHEUS
              value: http://{{ include "cellkiosk.name" $top }}-prometheus.{{ $top.Release.Namespace }}.svc:9090
            {{- end }}
            {{- include "cellkiosk.pricesEnv" $top | trim | nindent 12 }}
            {{- with .env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" $top | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- include "cellkiosk.storageMount" $top | trim | nindent 12 }}
            {{- include "cellkiosk.pricesMount" $top | trim | nindent 12 }}
      volumes:
        - {name: tmp, emptyDir: {}}
        {{- include "cellkiosk.storageVolume" $top | trim | nindent 8 }}
        {{- include "cellkiosk.pricesVolume" $top | trim | nindent 8 }}
{{- end -}}
