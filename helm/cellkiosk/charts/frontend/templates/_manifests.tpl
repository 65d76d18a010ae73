{{- define "frontend.manifests" -}}
{{- $values := .Values.frontend }}
{{- $name := printf "%s-frontend" (include "cellkiosk.name" .) }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "frontend" "storage" true) }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "frontend" $name) | nindent 2 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "frontend") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "frontend") | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: frontend
        {{- include "cellkiosk.scrape" (list . "9090") | nindent 8 }}
        {{- include "cellkiosk.pricesMark" . | nindent 8 }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "priority" "serving" "grace" (include "frontend.grace" . | int) "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      {{- include "cellkiosk.spread" (list . "frontend") | nindent 6 }}
      containers:
        - name: frontend
          image: {{ include "cellkiosk.image" (list . "frontend") }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args: [-m, services.frontend]
          env:
            {{- include "cellkiosk.env" (list . $values.settings) | trim | nindent 12 }}
            - {name: KIOSK_HOST, value: 0.0.0.0}
            - {name: KIOSK_PORT, value: "8080"}
            - name: KIOSK_PUBLIC_URL
              value: {{ include "cellkiosk.publicUrl" . | quote }}
            {{- include "cellkiosk.pricesEnv" . | trim | nindent 12 }}
            {{- with $values.existingSecret }}
            - name: KIOSK_AUTH__SECRET
              valueFrom: {secretKeyRef: {name: {{ . }}, key: auth-secret, optional: true}}
            - name: KIOSK_WEBHOOKS__SECRET
              valueFrom: {secretKeyRef: {name: {{ . }}, key: webhook-secret, optional: true}}
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: http, containerPort: 8080, protocol: TCP}
            - {name: health, containerPort: 9090, protocol: TCP}
          {{- include "cellkiosk.probes" . | nindent 10 }}
          lifecycle:
            # Load balancers learn within this time that the pod goes; only then does it stop taking requests.
            preStop: {exec: {command: [python, -c, import time; time.sleep({{ $values.preStopSeconds }})]}}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- include "cellkiosk.storageMount" . | trim | nindent 12 }}
            {{- include "cellkiosk.pricesMount" . | trim | nindent 12 }}
      volumes:
        - {name: tmp, emptyDir: {}}
        {{- include "cellkiosk.storageVolume" . | trim | nindent 8 }}
        {{- include "cellkiosk.pricesVolume" . | trim | nindent 8 }}
---
apiVersion: v1
kind: Service
metadata:
  {{- include "cellkiosk.metadata" (list . "frontend" $name) | nindent 2 }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector:
    {{- include "cellkiosk.selector" (list . "frontend") | nindent 4 }}
  ports:
    - name: http
      port: {{ $values.service.port }}
      targetPort: http
      protocol: TCP
      {{- if and (eq $values.service.type "NodePort") $values.service.nodePort }}
      nodePort: {{ $values.service.nodePort }}
      {{- end }}
---
{{ include "cellkiosk.disruption" (dict "top" . "component" "frontend" "name" $name "maxUnavailable" $values.maxUnavailable) }}
{{- if $values.autoscaling.enabled }}
---
apiVersion: {{ ternary "autoscaling/v2" "autoscaling/v2beta2" (.Capabilities.APIVersions.Has "autoscaling/v2") }}
kind: HorizontalPodAutoscaler
metadata:
  {{- include "cellkiosk.metadata" (list . "frontend" $name) | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ $values.autoscaling.minReplicas }}
  maxReplicas: {{ $values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ $values.autoscaling.cpuPercent }}}}
{{- end }}
{{- include "frontend.routes" (dict "top" . "name" $name) }}
{{ end -}}

{{/* s from SIGTERM to SIGKILL: the sleep before it, the service's own grace, and 5 to spare. */}}
{{- define "frontend.grace" -}}
{{ add .Values.frontend.preStopSeconds (ceil .Values.settings.grace | int) 5 }}
{{- end -}}

{{- define "frontend.routes" -}}
{{- $top := .top }}
{{- $values := $top.Values.frontend }}
{{- if $values.ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "cellkiosk.metadata" (list $top "frontend" .name) | nindent 2 }}
  annotations:
    {{- /* Without these ingress-nginx refuses a file of more than 1 MB, and cuts streams that are silent for a minute. */}}
    {{- $nginx := dict "proxy-body-size" "0" "proxy-request-buffering" "off" "proxy-buffering" "off" "proxy-read-timeout" "3600" }}
    {{- $annotations := deepCopy $values.ingress.annotations }}
    {{- range $key, $value := $nginx }}
    {{- $annotations = merge $annotations (dict (printf "nginx.ingress.kubernetes.io/%s" $key) $value) }}
    {{- end }}
    {{- toYaml $annotations | nindent 4 }}
spec:
  {{- with $values.ingress.className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- if $values.ingress.tlsSecret }}
  tls:
    - secretName: {{ $values.ingress.tlsSecret }}
      hosts:
        {{- toYaml $values.ingress.hosts | nindent 8 }}
  {{- end }}
  rules:
    {{- range required "frontend.ingress.hosts must name at least one host" $values.ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {service: {name: {{ $.name }}, port: {name: http}}}
    {{- end }}
{{- end }}
{{- if $values.gateway.enabled }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "cellkiosk.metadata" (list $top "frontend" .name) | nindent 2 }}
spec:
  parentRefs:
    {{- toYaml (required "frontend.gateway.parentRefs must name at least one gateway" $values.gateway.parentRefs) | nindent 4 }}
  {{- with $values.gateway.hosts }}
  hostnames:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    - matches: [{path: {type: PathPrefix, value: /}}]
      # Uploads and event streams last as long as they last.
      timeouts: {request: 0s}
      backendRefs: [{name: {{ .name }}, port: {{ $values.service.port }}}]
{{- end }}
{{- end -}}
