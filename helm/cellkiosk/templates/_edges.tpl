{{/*
Who may speak to whom, all in one table: each edge becomes an egress rule of `from` and an ingress rule of `to`.
Whatever is not here is denied. `outside` and `apiserver` are addresses beyond the release.
*/}}
{{- define "cellkiosk.edges" -}}
{{- $clients := list "frontend" "consumer" "autoscaler" "janitor" -}}
{{- $all := append $clients "console" -}}
{{- $values := .Values -}}
{{- if $values.redis.enabled }}
- {from: [{{ join ", " $all }}, redis], to: redis, ports: [6379, 26379]}
{{- else }}
- {from: [{{ join ", " $all }}], to: outside, ports: {{ toJson $values.redis.external.ports }}}
{{- end }}
{{- if and $values.triton.enabled (eq $values.triton.mode "shared") }}
- {from: [consumer], to: triton, ports: [8001]}
- {from: [autoscaler], to: triton, ports: [8002]}
{{- else if and (not $values.triton.enabled) (hasPrefix "grpc://" $values.triton.external.url) }}
- {from: [consumer], to: outside, ports: [{{ regexFind "[0-9]+$" $values.triton.external.url | default "8001" }}]}
{{- end }}
- {from: [frontend, consumer, janitor, console, triton], to: outside, ports: {{ toJson $values.networkPolicy.outsidePorts }}}
{{- if $values.workloadIdentity.googleServiceAccount }}
- {from: [frontend, consumer, janitor, console, triton], to: metadata, ports: [80, 988]}
{{- end }}
- {from: [{{ if not $values.autoscaler.keda.enabled }}autoscaler, {{ end }}janitor], to: apiserver, ports: {{ toJson $values.networkPolicy.apiServerPorts }}}
{{- with $values.settings.telemetry.otlp_endpoint }}
- {from: [frontend, consumer, autoscaler, janitor], to: outside, ports: [{{ regexFind "[0-9]+$" (. | trimSuffix "/") | default "4318" }}]}
{{- end }}
{{- if $values.frontend.enabled }}
- {from: [test, console], to: frontend, ports: [8080]}
{{- end }}
{{- if and $values.observability.enabled $values.observability.prometheus.enabled }}
- {from: [prometheus], to: apiserver, ports: {{ toJson $values.networkPolicy.apiServerPorts }}}
- {from: [prometheus], to: [{{ join ", " $clients }}], ports: [9090]}
- {from: [prometheus], to: {{ include "cellkiosk.tritonComponent" . }}, ports: [8002]}
- {from: [console], to: prometheus, ports: [9090]}
- {from: [prometheus], to: redis, ports: [9121]}
{{- range concat $values.observability.prometheus.alertmanagers $values.observability.prometheus.dcgmTargets }}
- {from: [prometheus], to: outside, ports: [{{ regexFind "[0-9]+$" . }}]}
{{- end }}
{{- if $values.observability.grafana.enabled }}
- {from: [grafana], to: prometheus, ports: [9090]}
- {from: [vpn], to: grafana, ports: [3000]}
{{- end }}
- {from: [vpn], to: prometheus, ports: [9090]}
{{- end }}
{{- if and $values.logging.enabled (not $values.logging.namespace) }}
- {from: [logging], to: outside, ports: [{{ $values.logging.port }}]}
{{- end }}
{{- end -}}

{{/* Whether a Prometheus that is not the release's own comes for the metrics: true or nothing. */}}
{{- define "cellkiosk.scrapedFromOutside" -}}
{{- $values := .Values.observability -}}
{{- if or (not $values.enabled) (not $values.prometheus.enabled) $values.operator.enabled }}true{{ end -}}
{{- end -}}

{{- define "cellkiosk.ports" -}}
{{- range . }}
- {protocol: TCP, port: {{ int . }}}
{{- end }}
{{- end -}}
