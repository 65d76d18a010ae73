{{/* One Deployment for each pool, all from this template. */}}
{{- define "consumer.manifests" -}}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "consumer" "storage" true) }}
{{- range .Values.consumer.pools }}
{{- include "consumer.pool" (dict "top" $ "pool" (include "consumer.resolved" (list $ .) | fromYaml)) }}
{{- end }}
{{ end -}}

{{/* A pool with its defaults, as YAML: (list $ entry) */}}
{{- define "consumer.resolved" -}}
{{- $pool := deepCopy (index . 0).Values.consumer.defaults -}}
{{- include "cellkiosk.mergeInto" (dict "base" $pool "over" (index . 1)) -}}
{{- toYaml $pool -}}
{{- end -}}

{{/* Whether there may be no model server at times, since nobody works: true or nothing. */}}
{{- define "consumer.fromZero" -}}
{{- $triton := .Values.triton -}}
{{- if and $triton.enabled (eq $triton.mode "shared") $triton.autoscaling.enabled .Values.autoscaler.enabled -}}
{{- if eq (int $triton.autoscaling.target.min_replicas) 0 }}true{{ end -}}
{{- end -}}
{{- end -}}

{{/* A pool's settings, as YAML: (dict top pool). Where no model server may be there at first, a job waits until one has
     started, since attempts that end before it has would use up all that the job has. */}}
{{- define "consumer.settings" -}}
{{- $triton := .top.Values.triton -}}
{{- $settings := deepCopy .pool.settings -}}
{{- if include "consumer.fromZero" .top -}}
{{- $_ := set $settings.model_server "patience" (max (float64 $settings.model_server.patience) (addf $triton.startSeconds 300)) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "consumer.pool" -}}
{{- $top := .top }}
{{- $pool := .pool }}
{{- $account := printf "%s-consumer" (include "cellkiosk.name" $top) }}
{{- $name := printf "%s-%s" $account $pool.name }}
{{- $sidecar := and $top.Values.triton.enabled (eq $top.Values.triton.mode "sidecar") }}
{{- $triton := $top.Values.triton }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list $top "consumer" $name) | nindent 2 }}
    cellkiosk/pool: {{ $pool.name }}
spec:
  {{- if not (and $pool.autoscaling.enabled $top.Values.autoscaler.enabled) }}
  replicas: {{ $pool.replicas }}
  {{- end }}
  strategy:
    rollingUpdate: {maxUnavailable: 25%, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list $top "consumer") | nindent 6 }}
      cellkiosk/pool: {{ $pool.name }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list $top "consumer") | nindent 8 }}
        cellkiosk/pool: {{ $pool.name }}
      annotations:
        kubectl.kubernetes.io/default-container: consumer
        {{- include "cellkiosk.scrape" (list $top "9090") | nindent 8 }}
    spec:
      {{- $selector := ternary (merge (dict) $pool.nodeSelector $triton.nodeSelector) $pool.nodeSelector $sidecar }}
      {{- $tolerations := ternary (concat $pool.tolerations $triton.tolerations) $pool.tolerations $sidecar }}
      {{- include "cellkiosk.podSpec" (dict "top" $top "account" $account "priority" "working" "grace" $pool.terminationGracePeriodSeconds "selector" $selector "tolerations" $tolerations) | nindent 6 }}
      {{- if and $sidecar $triton.runtimeClassName }}
      runtimeClassName: {{ $triton.runtimeClassName }}
      {{- end }}
      {{- if and $pool.sameZoneAsTriton $triton.enabled (not $sidecar) }}
      affinity:
        podAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: topology.kubernetes.io/zone
                labelSelector:
                  matchLabels:
                    {{- include "cellkiosk.selector" (list $top "triton") | nindent 20 }}
      {{- end }}
      containers:
        - name: consumer
          image: {{ include "cellkiosk.image" (list $top "consumer") }}
          imagePullPolicy: {{ $top.Values.images.pullPolicy }}
          args: [-m, services.consumer]
          env:
            {{- include "cellkiosk.env" (list $top (include "consumer.settings" . | fromYaml)) | trim | nindent 12 }}
            - name: KIOSK_WORK__TYPES
              value: {{ $pool.types | default list | toJson | quote }}
            - name: KIOSK_MODEL_SERVER__URL
              value: {{ include "cellkiosk.modelServerUrl" $top | quote }}
            - {name: KIOSK_SCRATCH, value: /scratch}
            - name: KIOSK_PUBLIC_URL
              value: {{ include "cellkiosk.publicUrl" $top | quote }}
            {{- with $pool.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: health, containerPort: 9090, protocol: TCP}
          {{- /* An upgrade must not wait for a model server that nobody needs just now. */}}
          {{- $probes := include "cellkiosk.probes" $top }}
          {{- ternary ($probes | replace "/readyz" "/healthz") $probes (eq (include "consumer.fromZero" $top) "true") | nindent 10 }}
          resources:
            {{- toYaml $pool.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" $top | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            - {name: scratch, mountPath: /scratch}
            {{- include "cellkiosk.storageMount" $top | trim | nindent 12 }}
            {{- if $sidecar }}
            - {name: shm, mountPath: /dev/shm}
            {{- end }}
        {{- if $sidecar }}
        {{- include "triton.container" $top | nindent 8 }}
        {{- end }}
      volumes:
        - {name: tmp, emptyDir: {}}
        - {name: scratch, emptyDir: {sizeLimit: {{ $pool.scratchSize }}}}
        {{- include "cellkiosk.storageVolume" $top | trim | nindent 8 }}
        {{- if $sidecar }}
        {{- include "triton.volumes" $top | trim | nindent 8 }}
        {{- end }}
---
{{ include "cellkiosk.disruption" (dict "top" $top "component" "consumer" "name" $name "maxUnavailable" $pool.maxUnavailable "selector" (dict "cellkiosk/pool" $pool.name)) }}
{{- end -}}
