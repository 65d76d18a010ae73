{{- define "autoscaler.manifests" -}}
{{- $values := .Values.autoscaler }}
{{- $name := printf "%s-autoscaler" (include "cellkiosk.name" .) }}
{{- $targets := include "autoscaler.targets" . | fromYamlArray }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "autoscaler") }}
{{- if not $values.keda.enabled }}
---
{{ include "autoscaler.rights" (dict "top" . "name" $name "targets" $targets) }}
{{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "autoscaler" $name) | nindent 2 }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "autoscaler") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "autoscaler") | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: autoscaler
        {{- include "cellkiosk.scrape" (list . "9090") | nindent 8 }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "token" (not $values.keda.enabled) "priority" "serving" "grace" (add (ceil .Values.settings.grace | int) 5) "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      {{- include "cellkiosk.spread" (list . "autoscaler") | nindent 6 }}
      containers:
        - name: autoscaler
          image: {{ include "cellkiosk.image" (list . "autoscaler") }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args: [-m, services.autoscaler]
          env:
            {{- include "cellkiosk.env" (list . $values.settings) | trim | nindent 12 }}
            - name: KIOSK_SCALER
              value: {{ ternary "keda" "kubernetes" $values.keda.enabled }}
            - name: KIOSK_TARGETS
              value: {{ toJson $targets | quote }}
            - name: KIOSK_KUBERNETES__NAMESPACE
              value: {{ .Release.Namespace }}
            - name: KIOSK_KUBERNETES__LEASE
              value: {{ $name }}
            {{- if $values.keda.enabled }}
            - {name: KIOSK_KEDA__HOST, value: 0.0.0.0}
            - {name: KIOSK_KEDA__PORT, value: "6000"}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: health, containerPort: 9090, protocol: TCP}
            {{- if $values.keda.enabled }}
            - {name: scaler, containerPort: 6000, protocol: TCP}
            {{- end }}
          {{- include "cellkiosk.probes" . | nindent 10 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
      volumes:
        - {name: tmp, emptyDir: {}}
---
{{ include "cellkiosk.disruption" (dict "top" . "component" "autoscaler" "name" $name "maxUnavailable" 1) }}
{{- if $values.keda.enabled }}
{{- include "autoscaler.keda" (dict "top" . "name" $name "targets" $targets) }}
{{- end }}
{{ end -}}

{{/* What is scaled, as services/autoscaler/targets.py reads it: a JSON list. */}}
{{- define "autoscaler.targets" -}}
{{- $top := . }}
{{- $targets := list }}
{{- if .Values.consumer.enabled }}
{{- range .Values.consumer.pools }}
{{- $pool := include "consumer.resolved" (list $top .) | fromYaml }}
{{- if $pool.autoscaling.enabled }}
{{- $target := dict "name" (printf "%s-consumer-%s" (include "cellkiosk.name" $top) $pool.name) "kind" "Deployment" }}
{{- if and $pool.types (not $pool.autoscaling.target.queues) }}
{{- $queues := dict }}
{{- range $pool.types }}
{{- $_ := set $queues . 1 }}
{{- end }}
{{- $_ := set $target "queues" $queues }}
{{- end }}
{{- if eq $top.Values.triton.mode "sidecar" }}
{{- $_ := set $target "gpus_per_replica" $top.Values.triton.gpus }}
{{- end }}
{{- $targets = append $targets (include "autoscaler.target" (list $target $pool.autoscaling.target) | fromYaml) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.triton.enabled (eq .Values.triton.mode "shared") .Values.triton.autoscaling.enabled }}
{{- $target := dict "name" (printf "%s-triton" (include "cellkiosk.name" .)) "kind" "Deployment" "in_flight_port" 8002 "gpus_per_replica" .Values.triton.gpus }}
{{- $targets = append $targets (include "autoscaler.target" (list $target .Values.triton.autoscaling.target) | fromYaml) }}
{{- end }}
{{- toYaml $targets }}
{{- end -}}

{{/* One target: what the chart knows of it, and what the values say: (list known values) */}}
{{- define "autoscaler.target" -}}
{{- $target := index . 0 }}
{{- range $key, $value := index . 1 }}
{{- if not (or (kindIs "invalid" $value) (and (eq $key "queues") (not $value))) }}
{{- $_ := set $target $key $value }}
{{- end }}
{{- end }}
{{- toYaml $target }}
{{- end -}}

{{/* In its own namespace only: the scale of the named targets, pods to look at and to mark, events, its lease. */}}
{{- define "autoscaler.rights" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "cellkiosk.metadata" (list .top "autoscaler" .name) | nindent 2 }}
rules:
  {{- $deployments := list }}
  {{- range .targets }}
  {{- $deployments = append $deployments .name }}
  {{- end }}
  {{- if $deployments }}
  - apiGroups: [apps]
    resources: [deployments/scale]
    resourceNames: {{ toJson $deployments }}
    verbs: [get, patch]
  {{- end }}
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch, patch]
  - apiGroups: [""]
    resources: [events]
    verbs: [create, patch, list]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    verbs: [create]
  - apiGroups: [coordination.k8s.io]
    resources: [leases]
    resourceNames: [{{ .name }}]
    verbs: [get, update]
---
{{ include "cellkiosk.roleBinding" . }}
{{- end -}}

{{/* KEDA owns the replicas: it asks our external scaler, which pushes when work arrives. */}}
{{- define "autoscaler.keda" -}}
{{- $top := .top }}
{{- $name := .name }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list $top "autoscaler" .name) | nindent 2 }}
spec:
  selector:
    {{- include "cellkiosk.selector" (list $top "autoscaler") | nindent 4 }}
  ports:
    - {name: scaler, port: 6000, targetPort: scaler, protocol: TCP}
{{- range .targets }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "cellkiosk.metadata" (list $top "autoscaler" .name) | nindent 2 }}
spec:
  scaleTargetRef: {name: {{ .name }}}
  minReplicaCount: {{ int .min_replicas }}
  maxReplicaCount: {{ int .max_replicas }}
  cooldownPeriod: {{ int .cooldown }}
  triggers:
    - type: external-push
      metadata:
        scalerAddress: {{ $name }}.{{ $top.Release.Namespace }}.svc:6000
        target: {{ .name }}
{{- end }}
{{- end -}}
