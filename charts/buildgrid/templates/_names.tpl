{{/* What objects are called, and how they are found. */}}

{{/* What all names begin with; short enough for the suffixes that the operator and this chart add. */}}
{{- define "buildgrid.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default "buildgrid" .Values.nameOverride -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- ternary $release (printf "%s-%s" $release $name) (contains $name $release) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What objects of the cluster are called: two releases in two namespaces may have one name. */}}
{{- define "buildgrid.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "buildgrid.fullname" .) -}}
{{- end -}}

{{/* Labels that only the pods of a component have; they never change. Takes root and component. */}}
{{- define "buildgrid.selector" -}}
app.kubernetes.io/name: {{ default "buildgrid" .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The labels that Kubernetes recommends. Takes root and component. */}}
{{- define "buildgrid.labels" -}}
{{ include "buildgrid.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: buildgrid
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The namespaces that the operator looks after, one a line; nothing in cluster scope. */}}
{{- define "buildgrid.namespaces" -}}
{{- if eq .Values.operator.scope "Namespaced" -}}
{{- join "\n" (.Values.operator.namespaces | default (list .Release.Namespace) | uniq | sortAlpha) -}}
{{- else if .Values.operator.namespaces -}}
{{- fail "operator.namespaces: has an effect with operator.scope Namespaced only; change the scope, or remove it" -}}
{{- end -}}
{{- end -}}
