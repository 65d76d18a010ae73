{{/* What the pods of all components have in common. */}}

{{/* Pod Security "restricted": ($) */}}
{{- define "cellkiosk.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.podSecurity.user }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
fsGroup: {{ int . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "cellkiosk.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Start of a pod's spec: (dict top account token priority grace selector tolerations) */}}
{{- define "cellkiosk.podSpec" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
{{- $priorities := .top.Values.priorityClasses }}
{{- $class := get $priorities .priority }}
{{- if and (not $class) $priorities.create }}
{{- $class = printf "%s-%s" (include "cellkiosk.name" .top) .priority }}
{{- end }}
{{- with $class }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "cellkiosk.podSecurity" .top | nindent 2 }}
{{- with .top.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Two pods of a component rather on two nodes: (list $ component) */}}
{{- define "cellkiosk.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cellkiosk.selector" . | nindent 8 }}
{{- end -}}

{{/* Settings as environment variables, as shared/settings.py reads them: (list prefix map) */}}
{{- define "cellkiosk.settings" -}}
{{- range $key, $value := index . 1 }}
{{- $name := printf "%s%s" (index $ 0) (upper $key) }}
{{- if kindIs "map" $value }}
{{- include "cellkiosk.settings" (list (printf "%s__" $name) $value) }}
{{- else if not (kindIs "invalid" $value) }}
- name: {{ $name }}
  value: {{ include "cellkiosk.plain" $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A value as text; whole numbers without an exponent. */}}
{{- define "cellkiosk.plain" -}}
{{- if kindIs "slice" . -}}
{{ toJson . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end -}}

{{/* Environment of every service of ours: (list $ its-settings) */}}
{{- define "cellkiosk.env" -}}
{{- $top := index . 0 }}
- name: KIOSK_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- include "cellkiosk.redisEnv" $top }}
- name: KIOSK_STORAGE__URL
  value: {{ include "cellkiosk.storageUrl" $top | quote }}
- name: KIOSK_HEALTH__HOST
  value: 0.0.0.0
- name: KIOSK_HEALTH__PORT
  value: "9090"
{{- include "cellkiosk.settings" (list "KIOSK_" $top.Values.settings) }}
{{- include "cellkiosk.settings" (list "KIOSK_" (index . 1)) }}
{{- end -}}

{{/* Probes of every service of ours: the process lives; it is started; what it needs answers. */}}
{{- define "cellkiosk.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* Annotations of a pod that is scraped: (list $ port) */}}
{{- define "cellkiosk.scrape" -}}
{{- if (index . 0).Values.observability.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end -}}

{{/* The volume of images and results, where there is no bucket. */}}
{{- define "cellkiosk.storageMount" -}}
{{- if not .Values.storage.bucket }}
- name: storage
  mountPath: /data
{{- end }}
{{- end -}}

{{- define "cellkiosk.storageVolume" -}}
{{- if not .Values.storage.bucket }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ .Values.storage.volume.existingClaim | default (printf "%s-storage" (include "cellkiosk.name" .)) }}
{{- end }}
{{- end -}}

{{/* The price list of one's own, where there is one: its variable, its mount, its volume, and a mark of its text. */}}
{{- define "cellkiosk.pricesEnv" -}}
{{- if .Values.priceList }}
- {name: KIOSK_PRICES, value: /prices/own.csv}
{{- end }}
{{- end -}}

{{- define "cellkiosk.pricesMount" -}}
{{- if .Values.priceList }}
- {name: prices, mountPath: /prices, readOnly: true}
{{- end }}
{{- end -}}

{{- define "cellkiosk.pricesVolume" -}}
{{- if .Values.priceList }}
- name: prices
  configMap: {name: {{ include "cellkiosk.name" . }}-prices}
{{- end }}
{{- end -}}

{{- define "cellkiosk.pricesMark" -}}
{{- with .Values.priceList }}
checksum/prices: {{ sha256sum . }}
{{- end }}
{{- end -}}

{{/* A service account: (dict top component storage) */}}
{{- define "cellkiosk.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "cellkiosk.metadata" (list .top .component (printf "%s-%s" (include "cellkiosk.name" .top) .component)) | nindent 2 }}
  {{- if and .storage .top.Values.workloadIdentity.googleServiceAccount }}
  annotations:
    iam.gke.io/gcp-service-account: {{ .top.Values.workloadIdentity.googleServiceAccount }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* A PodDisruptionBudget: (dict top component name maxUnavailable selector) */}}
{{- define "cellkiosk.disruption" -}}
apiVersion: {{ ternary "policy/v1" "policy/v1beta1" (.top.Capabilities.APIVersions.Has "policy/v1") }}
kind: PodDisruptionBudget
metadata:
  {{- include "cellkiosk.metadata" (list .top .component .name) | nindent 2 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list .top .component) | nindent 6 }}
      {{- with .selector }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}

{{/* The Role of a component bound to its service account, both of one name: (dict top name [component]) */}}
{{- define "cellkiosk.roleBinding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "cellkiosk.metadata" (list .top (.component | default "autoscaler") .name) | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ .name }}, namespace: {{ .top.Release.Namespace }}}
{{- end -}}

{{/* Where the jobs are. The password stays in its Secret; Kubernetes puts it into the address. */}}
{{- define "cellkiosk.redisEnv" -}}
{{- $redis := .Values.redis }}
{{- $name := printf "%s-redis" (include "cellkiosk.name" .) }}
{{- if $redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $redis.existingSecret | default $name }}, key: password}}
- name: KIOSK_REDIS__URL
{{- if $redis.sentinel.enabled }}
  {{- $hosts := list }}
  {{- range until 3 }}
  {{- $hosts = append $hosts (printf "%s-%d.%s-nodes.%s.svc:26379" $name . $name $.Release.Namespace) }}
  {{- end }}
  value: redis+sentinel://:$(REDIS_PASSWORD)@{{ join "," $hosts }}/kiosk/0
{{- else }}
  value: redis://:$(REDIS_PASSWORD)@{{ $name }}.{{ .Release.Namespace }}.svc:6379/0
{{- end }}
{{- else if $redis.external.existingSecret }}
- name: KIOSK_REDIS__URL
  valueFrom: {secretKeyRef: {name: {{ $redis.external.existingSecret }}, key: url}}
{{- else }}
- name: KIOSK_REDIS__URL
  value: {{ required "redis.enabled is false: redis.external.url or redis.external.existingSecret must say where Redis is" $redis.external.url | quote }}
{{- end }}
{{- end -}}
