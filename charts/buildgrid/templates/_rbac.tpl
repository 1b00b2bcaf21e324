{{/* What the operator may do. docs/rbac.md says which call needs which rule; there are no wildcards, and no Secrets. */}}

{{/* In each namespace that it looks after. */}}
{{- define "buildgrid.operatorRules" -}}
- apiGroups: [buildgrid.build]
  resources: [schedulers]
  verbs: [get, list, watch, patch]
- apiGroups: [buildgrid.build]
  resources: [propertysets, botfleets]
  verbs: [list, watch]
- apiGroups: [buildgrid.build]
  resources: [schedulers/status, propertysets/status, botfleets/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [configmaps, services, serviceaccounts, persistentvolumeclaims]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments, statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list, create, patch]
{{- end -}}

{{/* Whether it watches nodes; nothing if not. */}}
{{- define "buildgrid.watchesNodes" -}}
{{- if kindIs "invalid" .Values.operator.watchNodes -}}
{{- if eq .Values.operator.scope "Cluster" -}}
yes
{{- end -}}
{{- else if .Values.operator.watchNodes -}}
yes
{{- end -}}
{{- end -}}

{{/* Of the Job before `helm uninstall`, in the same namespaces. */}}
{{- define "buildgrid.uninstallRules" -}}
- apiGroups: [buildgrid.build]
  resources: [schedulers]
  verbs: [get, list, watch, patch, delete]
{{- end -}}

{{/*
A ClusterRole, or a Role in each namespace, and its binding. Takes root, component, name (of the ServiceAccount), rules
and, optionally, annotations.
*/}}
{{- define "buildgrid.grant" -}}
{{- $grant := . -}}
{{- $labels := include "buildgrid.labels" . | fromYaml -}}
{{- $account := dict "kind" "ServiceAccount" "name" .name "namespace" .root.Release.Namespace -}}
{{- $namespaces := include "buildgrid.namespaces" .root -}}
{{- $cluster := eq .root.Values.operator.scope "Cluster" -}}
{{- $prefix := ternary "Cluster" "" $cluster -}}
{{- $name := ternary (printf "%s-%s" .root.Release.Namespace .name) .name $cluster -}}
{{- range (ternary (list "") (splitList "\n" $namespaces) $cluster) }}
{{- /* Elsewhere the name says whose it is: another release may look after the same namespace. */}}
{{- $here := ternary $name (printf "%s-%s" $grant.root.Release.Namespace $name) (or $cluster (eq . $grant.root.Release.Namespace)) }}
{{- $metadata := dict "name" $here "labels" $labels }}
{{- with . }}{{ $_ := set $metadata "namespace" . }}{{ end }}
{{- with $grant.annotations }}{{ $_ := set $metadata "annotations" . }}{{ end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}Role
metadata:
  {{- toYaml $metadata | nindent 2 }}
rules:
{{ $grant.rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}RoleBinding
metadata:
  {{- toYaml $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $prefix }}Role
  name: {{ $here }}
subjects:
- {{- toYaml $account | nindent 2 }}
{{- end }}
{{- end -}}
