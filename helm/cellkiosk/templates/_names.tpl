{{/* Names and labels. A component is one part: frontend, consumer, autoscaler, janitor, triton, redis, … */}}

{{- define "cellkiosk.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "cellkiosk" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-cellkiosk" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component: (list $ component). Never changes, since a Deployment's selector may not. */}}
{{- define "cellkiosk.selector" -}}
app.kubernetes.io/name: cellkiosk
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "cellkiosk.labels" -}}
{{- $top := index . 0 -}}
{{ include "cellkiosk.selector" . }}
app.kubernetes.io/part-of: cellkiosk
app.kubernetes.io/version: {{ $top.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $top.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $top.Chart.Name $top.Chart.Version }}
{{- with $top.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object: (list $ component name) */}}
{{- define "cellkiosk.metadata" -}}
name: {{ index . 2 }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "cellkiosk.labels" . | nindent 2 }}
{{- end -}}

{{/* The suite's own image of a service: (list $ service) */}}
{{- define "cellkiosk.image" -}}
{{- $top := index . 0 -}}{{- $service := index . 1 -}}
{{- $images := $top.Values.images -}}
{{- with get $images.digests $service -}}
{{ $images.registry }}/{{ $service }}@{{ . }}
{{- else -}}
{{ $images.registry }}/{{ $service }}:{{ $images.tag | default $top.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "cellkiosk.publicUrl" -}}
{{- $ingress := .Values.frontend.ingress -}}
{{- $gateway := .Values.frontend.gateway -}}
{{- if .Values.publicUrl -}}
{{ .Values.publicUrl | trimSuffix "/" }}
{{- else if and $ingress.enabled $ingress.hosts -}}
{{ ternary "https" "http" (ne $ingress.tlsSecret "") }}://{{ first $ingress.hosts }}
{{- else if and $gateway.enabled $gateway.hosts -}}
https://{{ first $gateway.hosts }}
{{- else -}}
http://{{ include "cellkiosk.name" . }}-frontend.{{ .Release.Namespace }}.svc{{ if ne (int .Values.frontend.service.port) 80 }}:{{ .Values.frontend.service.port }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "cellkiosk.storageUrl" -}}
{{- if .Values.storage.bucket -}}
gs://{{ .Values.storage.bucket }}{{ with .Values.storage.prefix }}/{{ . | trimAll "/" }}{{ end }}
{{- else -}}
file:///data{{ with .Values.storage.prefix }}/{{ . | trimAll "/" }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Where consumers find the models. */}}
{{- define "cellkiosk.modelServerUrl" -}}
{{- if not .Values.triton.enabled -}}
{{ required "triton.enabled is false: triton.external.url must say where the models are (grpc://host:port)" .Values.triton.external.url }}
{{- else if eq .Values.triton.mode "sidecar" -}}
grpc://127.0.0.1:8001
{{- else -}}
grpc://{{ include "cellkiosk.name" . }}-triton.{{ .Release.Namespace }}.svc:8001
{{- end -}}
{{- end -}}

{{/* Whose pods the model servers run in. */}}
{{- define "cellkiosk.tritonComponent" -}}
{{- ternary "consumer" "triton" (eq .Values.triton.mode "sidecar") -}}
{{- end -}}

{{/* Writes the entries of `over` into `base`, map by map; unlike mergeOverwrite, false and 0 count: (dict base over) */}}
{{- define "cellkiosk.mergeInto" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- include "cellkiosk.mergeInto" (dict "base" (get $base $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
