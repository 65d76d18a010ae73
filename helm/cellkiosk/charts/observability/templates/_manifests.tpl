{{- define "observability.manifests" -}}
{{- $values := .Values.observability }}
{{- $top := . }}
{{- $name := include "cellkiosk.name" . }}
{{- if or $values.dashboards.enabled $values.grafana.enabled }}
{{- range $path, $_ := .Files.Glob "files/dashboards/*.json" }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "cellkiosk.metadata" (list $top "dashboards" (printf "%s-dashboard-%s" $name (base $path | trimSuffix ".json"))) | nindent 2 }}
    {{- if $values.dashboards.enabled }}
    {{ $values.dashboards.label }}: {{ $values.dashboards.labelValue | quote }}
    {{- end }}
data:
  cellkiosk-{{ base $path }}: |-
    {{- $top.Files.Get $path | trim | replace "__SERVER_HOUR__" (ternary $values.prices.gpuNodeHour $values.prices.consumerHour (gt (int $top.Values.triton.gpus) 0) | toString) | replace "__CONSUMER_HOUR__" (toString $values.prices.consumerHour) | nindent 4 }}
{{- end }}
{{- end }}
{{- if $values.operator.enabled }}
{{- include "observability.operator" . }}
{{- end }}
{{- if $values.prometheus.enabled }}
{{- include "observability.prometheus" . }}
{{- end }}
{{- if $values.grafana.enabled }}
{{- include "observability.grafana" . }}
{{- end }}
{{ end -}}

{{/* Alerts and recording rules with the values' thresholds. */}}
{{- define "observability.rules" -}}
{{- $values := .Values.observability -}}
{{- .Files.Get "files/rules.yaml"
  | replace "__RUNBOOKS__" ($values.runbooks | trimSuffix "/")
  | replace "__JOB_SECONDS__" (printf "%.1f" (float64 $values.slo.jobSeconds))
  | replace "__OLDEST_JOB_SECONDS__" (int $values.slo.oldestJobSeconds | toString) | trim -}}
{{- end -}}
