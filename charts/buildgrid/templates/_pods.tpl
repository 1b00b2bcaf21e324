{{/* What all pods of this chart have. They keep to restricted Pod Security. */}}

{{/* Takes root, component and, optionally, annotations. */}}
{{- define "buildgrid.podMetadata" -}}
{{- $annotations := merge (dict) (.annotations | default dict) .root.Values.pods.annotations -}}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
labels:
  {{- $own := include "buildgrid.selector" . | fromYaml }}
  {{- toYaml (merge (dict) $own .root.Values.pods.labels) | nindent 2 }}
{{- end -}}

{{/* Takes root. */}}
{{- define "buildgrid.podSpec" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- with .root.Values.pods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Takes root and image, a name. */}}
{{- define "buildgrid.container" -}}
image: {{ include "buildgrid.image" (dict "root" .root "name" .image) }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
