{{/* For a cluster that has the Prometheus operator. */}}
{{- define "observability.operator" -}}
{{- $top := . }}
{{- $values := .Values.observability }}
{{- $name := include "cellkiosk.name" . }}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  {{- include "cellkiosk.metadata" (list . "observability" $name) | nindent 2 }}
    {{- with $values.operator.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "observability.rules" . | nindent 2 }}
{{- range $component, $port := dict "frontend" "health" "consumer" "health" "autoscaler" "health" "janitor" "health" "triton" "metrics" "redis" "exporter" }}
{{- if (get $top.Values $component).enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  {{- include "cellkiosk.metadata" (list $top "observability" (printf "%s-%s" $name $component)) | nindent 2 }}
    {{- with $values.operator.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list $top (ternary (include "cellkiosk.tritonComponent" $top) $component (eq $component "triton"))) | nindent 6 }}
  podMetricsEndpoints:
    - port: {{ $port }}
      interval: {{ $values.scrapeSeconds }}s
      relabelings:
        - {targetLabel: job, replacement: cellkiosk-{{ $component }}}
{{- end }}
{{- end }}
{{- if $values.dcgm.podMonitor }}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  {{- include "cellkiosk.metadata" (list . "observability" (printf "%s-dcgm" $name)) | nindent 2 }}
    {{- with $values.operator.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  namespaceSelector: {matchNames: [{{ $values.dcgm.namespace }}]}
  selector:
    matchLabels:
      {{- toYaml $values.dcgm.selector | nindent 6 }}
  podMetricsEndpoints:
    - port: {{ $values.dcgm.port }}
      # The exporter names the pod that uses a GPU, and its namespace, which the dashboards choose by.
      honorLabels: true
      interval: {{ $values.scrapeSeconds }}s
{{- end }}
{{- end -}}
