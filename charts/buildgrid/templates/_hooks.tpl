{{/* Jobs around an installation, each with a ServiceAccount of its own that is there for no longer. */}}

{{/* Takes event and weight. */}}
{{- define "buildgrid.hookAnnotations" -}}
helm.sh/hook: {{ .event }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/*
The ServiceAccount and the Job. Takes root, component, name, event, args (a list) and deadline (seconds). Exit code 3
says that trying again is of no use.
*/}}
{{- define "buildgrid.hookJob" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "buildgrid.labels" . | nindent 4 }}
  annotations:
    {{- include "buildgrid.hookAnnotations" (dict "event" .event "weight" "-10") | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "buildgrid.labels" . | nindent 4 }}
  annotations:
    {{- include "buildgrid.hookAnnotations" (dict "event" .event "weight" (default "0" .weight)) | nindent 4 }}
    helm.sh/hook-output-log-policy: hook-failed
spec:
  backoffLimit: 3
  activeDeadlineSeconds: {{ .deadline }}
  # What was left to look at after a failure goes by itself.
  ttlSecondsAfterFinished: 3600
  podFailurePolicy:
    rules:
    - action: FailJob
      onExitCodes:
        containerName: {{ .component }}
        operator: In
        values: [3]
  template:
    metadata:
      {{- include "buildgrid.podMetadata" (merge (dict "annotations" .root.Values.hooks.podAnnotations) .) | trim | nindent 6 }}
    spec:
      {{- include "buildgrid.podSpec" . | nindent 6 }}
      serviceAccountName: {{ .name }}
      automountServiceAccountToken: true
      restartPolicy: Never
      containers:
      - name: {{ .component }}
        {{- include "buildgrid.container" (dict "root" .root "image" "operator") | nindent 8 }}
        args:
        {{- toYaml .args | nindent 8 }}
        {{- with .root.Values.hooks.resources }}
        resources:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
        - {name: tmp, mountPath: /tmp}
      volumes:
      - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end -}}
