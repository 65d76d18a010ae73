{{- define "redis.manifests" -}}
{{- $values := .Values.redis }}
{{- $name := printf "%s-redis" (include "cellkiosk.name" .) }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "redis") }}
{{- if not $values.existingSecret }}
---
{{ include "redis.secret" (dict "top" . "name" $name) }}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "cellkiosk.metadata" (list . "redis" $name) | nindent 2 }}
data:
  redis.conf: |
    {{- include "redis.conf" . | nindent 4 }}
  server.sh: |
    {{- .Files.Get "files/redis/server.sh" | nindent 4 }}
  {{- if $values.sentinel.enabled }}
  sentinel.sh: |
    {{- .Files.Get "files/redis/sentinel.sh" | nindent 4 }}
  {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "cellkiosk.metadata" (list . "redis" $name) | nindent 2 }}
spec:
  replicas: {{ ternary 3 1 $values.sentinel.enabled }}
  serviceName: {{ $name }}-nodes
  podManagementPolicy: {{ ternary "Parallel" "OrderedReady" $values.sentinel.enabled }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "redis") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "redis") | nindent 8 }}
      annotations:
        checksum/config: {{ printf "%s%s%s" (include "redis.conf" .) (.Files.Get "files/redis/server.sh") (.Files.Get "files/redis/sentinel.sh") | sha256sum }}
        {{- if $values.exporter.enabled }}
        {{- include "cellkiosk.scrape" (list . "9121") | nindent 8 }}
        {{- end }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "priority" "serving" "grace" 60 "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      {{- if $values.sentinel.enabled }}
      {{- include "cellkiosk.spread" (list . "redis") | nindent 6 }}
      {{- end }}
      containers:
        {{- include "redis.server" (dict "top" . "name" $name) | nindent 8 }}
        {{- if $values.sentinel.enabled }}
        {{- include "redis.sentinel" (dict "top" . "name" $name) | nindent 8 }}
        {{- end }}
        {{- if $values.exporter.enabled }}
        {{- include "redis.exporter" (dict "top" . "name" $name) | nindent 8 }}
        {{- end }}
      volumes:
        - name: config
          configMap: {name: {{ $name }}, defaultMode: 365} # 0555: the scripts are run
        - {name: tmp, emptyDir: {}}
  {{- if and (not $values.keep) (semverCompare ">=1.27.0-0" .Capabilities.KubeVersion.Version) }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  {{- end }}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $values.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $values.size }}}}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "redis" (printf "%s-nodes" $name)) | nindent 2 }}
spec:
  clusterIP: None
  # Sentinels and replicas must find one another before they are ready.
  publishNotReadyAddresses: true
  selector:
    {{- include "cellkiosk.selector" (list . "redis") | nindent 4 }}
  ports:
    - {name: redis, port: 6379, targetPort: redis, protocol: TCP}
    {{- if $values.sentinel.enabled }}
    - {name: sentinel, port: 26379, targetPort: sentinel, protocol: TCP}
    {{- end }}
{{- if not $values.sentinel.enabled }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "redis" $name) | nindent 2 }}
spec:
  selector:
    {{- include "cellkiosk.selector" (list . "redis") | nindent 4 }}
  ports:
    - {name: redis, port: 6379, targetPort: redis, protocol: TCP}
{{- end }}
---
{{ include "cellkiosk.disruption" (dict "top" . "component" "redis" "name" $name "maxUnavailable" 1) }}
{{ end -}}

{{- define "redis.secret" -}}
{{- $found := lookup "v1" "Secret" .top.Release.Namespace .name }}
apiVersion: v1
kind: Secret
metadata:
  {{- include "cellkiosk.metadata" (list .top "redis" .name) | nindent 2 }}
type: Opaque
data:
  # Made once and kept over upgrades; letters and digits only, since it becomes part of an address.
  password: {{ dig "data" "password" (randAlphaNum 32 | b64enc) ($found | default dict) }}
{{- end -}}

{{- define "redis.conf" -}}
# Jobs are never dropped: the log of all writes is on, and a full memory refuses writes.
appendonly yes
appendfsync {{ .Values.redis.appendfsync }}
save ""
maxmemory {{ .Values.redis.maxmemory }}
maxmemory-policy noeviction
# Changes of job hashes, and of the small keys that wake somebody: hash and string events.
notify-keyspace-events K$h
{{- if .Values.redis.sentinel.enabled }}
# A master that has lost both replicas stops taking jobs, which a failover would lose.
min-replicas-to-write 1
min-replicas-max-lag 10
{{- end }}
# A replica that still writes its first log after a copy would not end when it is asked to, and never later either.
shutdown-on-sigterm force
dir /data
protected-mode no
tcp-keepalive 60
{{- end -}}

{{- define "redis.server" -}}
{{- $values := .top.Values.redis -}}
- name: redis
  image: {{ $values.image }}
  imagePullPolicy: {{ .top.Values.images.pullPolicy }}
  command: [/config/server.sh]
  env:
    - name: REDISCLI_AUTH
      valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | default .name }}, key: password}}
    {{- include "redis.nodeEnv" . | nindent 4 }}
  ports:
    - {name: redis, containerPort: 6379, protocol: TCP}
  startupProbe:
    # Reading a large append-only file takes minutes.
    exec: {command: [sh, -c, "$(command -v valkey-cli || command -v redis-cli) ping | grep -q PONG"]}
    periodSeconds: 2
    failureThreshold: 300
  livenessProbe:
    tcpSocket: {port: redis}
    periodSeconds: 10
    failureThreshold: 6
  readinessProbe:
    exec: {command: [sh, -c, "$(command -v valkey-cli || command -v redis-cli) ping | grep -q PONG"]}
    periodSeconds: 5
    timeoutSeconds: 3
  resources:
    {{- toYaml $values.resources | nindent 4 }}
  securityContext:
    {{- include "cellkiosk.containerSecurity" .top | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /config, readOnly: true}
    - {name: data, mountPath: /data}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "redis.nodeEnv" -}}
- name: POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: SELF, value: $(POD).{{ .name }}-nodes.{{ .top.Release.Namespace }}.svc}
- {name: PORT, value: "6379"}
- {name: CONFIG, value: /config/redis.conf}
- {name: STATE, value: /data}
{{- if .top.Values.redis.sentinel.enabled }}
- {name: FIRST, value: "{{ .name }}-0.{{ .name }}-nodes.{{ .top.Release.Namespace }}.svc:6379"}
- name: SENTINELS
  value: {{ range $i := until 3 }}{{ if $i }} {{ end }}{{ $.name }}-{{ $i }}.{{ $.name }}-nodes.{{ $.top.Release.Namespace }}.svc:26379{{ end }}
- {name: SENTINEL_PORT, value: "26379"}
- {name: DOWN_AFTER, value: "{{ int .top.Values.redis.sentinel.downAfterMilliseconds }}"}
- {name: FAILOVER_TIMEOUT, value: "{{ int .top.Values.redis.sentinel.failoverTimeout }}"}
{{- end }}
{{- end -}}

{{- define "redis.sentinel" -}}
{{- $values := .top.Values.redis -}}
- name: sentinel
  image: {{ $values.image }}
  imagePullPolicy: {{ .top.Values.images.pullPolicy }}
  command: [/config/sentinel.sh]
  env:
    - name: REDISCLI_AUTH
      valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | default .name }}, key: password}}
    {{- include "redis.nodeEnv" . | nindent 4 }}
  ports:
    - {name: sentinel, containerPort: 26379, protocol: TCP}
  livenessProbe:
    tcpSocket: {port: sentinel}
    periodSeconds: 10
    failureThreshold: 6
  readinessProbe:
    tcpSocket: {port: sentinel}
    periodSeconds: 5
  resources:
    requests: {cpu: 10m, memory: 32Mi}
    limits: {memory: 96Mi}
  securityContext:
    {{- include "cellkiosk.containerSecurity" .top | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /config, readOnly: true}
    - {name: data, mountPath: /data}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "redis.exporter" -}}
{{- $values := .top.Values.redis -}}
- name: exporter
  image: {{ $values.exporter.image }}
  imagePullPolicy: {{ .top.Values.images.pullPolicy }}
  env:
    - {name: REDIS_ADDR, value: "redis://127.0.0.1:6379"}
    - name: REDIS_PASSWORD
      valueFrom: {secretKeyRef: {name: {{ $values.existingSecret | default .name }}, key: password}}
  ports:
    - {name: exporter, containerPort: 9121, protocol: TCP}
  livenessProbe:
    httpGet: {path: /health, port: exporter}
    periodSeconds: 30
  resources:
    {{- toYaml $values.exporter.resources | nindent 4 }}
  securityContext:
    {{- include "cellkiosk.containerSecurity" .top | nindent 4 }}
{{- end -}}
