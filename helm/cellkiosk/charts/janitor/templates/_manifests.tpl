{{- define "janitor.manifests" -}}
{{- $values := .Values.janitor }}
{{- $name := printf "%s-janitor" (include "cellkiosk.name" .) }}
{{- include "cellkiosk.serviceAccount" (dict "top" . "component" "janitor" "storage" true) }}
---
# In its own namespace only: to see that a pod has gone, and to take back at once what it held.
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "cellkiosk.metadata" (list . "janitor" $name) | nindent 2 }}
rules:
  - apiGroups: [""]
    resources: [pods]
    verbs: [get, list, watch]
---
{{ include "cellkiosk.roleBinding" (dict "top" . "name" $name "component" "janitor") }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "cellkiosk.metadata" (list . "janitor" $name) | nindent 2 }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels:
      {{- include "cellkiosk.selector" (list . "janitor") | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "cellkiosk.labels" (list . "janitor") | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: janitor
        {{- include "cellkiosk.scrape" (list . "9090") | nindent 8 }}
    spec:
      {{- include "cellkiosk.podSpec" (dict "top" . "account" $name "token" true "priority" "serving" "grace" (add (ceil .Values.settings.grace | int) 5) "selector" $values.nodeSelector "tolerations" $values.tolerations) | nindent 6 }}
      {{- include "cellkiosk.spread" (list . "janitor") | nindent 6 }}
      containers:
        - name: janitor
          image: {{ include "cellkiosk.image" (list . "janitor") }}
          imagePullPolicy: {{ .Values.images.pullPolicy }}
          args: [-m, services.janitor]
          env:
            {{- include "cellkiosk.env" (list . $values.settings) | trim | nindent 12 }}
            - {name: KIOSK_PODS__WATCH, value: "true"}
            - name: KIOSK_PODS__NAMESPACE
              value: {{ .Release.Namespace }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - {name: health, containerPort: 9090, protocol: TCP}
          {{- include "cellkiosk.probes" . | nindent 10 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "cellkiosk.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- include "cellkiosk.storageMount" . | trim | nindent 12 }}
      volumes:
        - {name: tmp, emptyDir: {}}
        {{- include "cellkiosk.storageVolume" . | trim | nindent 8 }}
---
{{ include "cellkiosk.disruption" (dict "top" . "component" "janitor" "name" $name "maxUnavailable" 1) }}
{{ end -}}
