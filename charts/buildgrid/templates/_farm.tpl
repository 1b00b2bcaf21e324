{{/* The first farm: a Scheduler, its PropertySet, its database. */}}

{{- define "buildgrid.schedulerName" -}}
{{- $name := default (include "buildgrid.fullname" .) .Values.scheduler.name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "scheduler.name: %q, made of the release's name, does not begin with a letter; set another one" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "buildgrid.propertySetName" -}}
{{- default (include "buildgrid.fullname" .) .Values.propertySet.name -}}
{{- end -}}

{{- define "buildgrid.postgresqlName" -}}
{{- printf "%s-postgresql" (include "buildgrid.fullname" .) -}}
{{- end -}}

{{/* Whether a Job makes the password; nothing if not. */}}
{{- define "buildgrid.generatesPassword" -}}
{{- if and .Values.postgresql.password .Values.postgresql.existingSecret -}}
{{- fail "postgresql.existingSecret: is set beside postgresql.password; remove one of the two" -}}
{{- end -}}
{{- if and .Values.postgresql.enabled (not .Values.postgresql.password) (not .Values.postgresql.existingSecret) -}}
yes
{{- end -}}
{{- end -}}

{{/* The Secret with the password. */}}
{{- define "buildgrid.passwordSecretName" -}}
{{- if .Values.postgresql.existingSecret -}}
{{- .Values.postgresql.existingSecret -}}
{{- else if include "buildgrid.generatesPassword" . -}}
{{- printf "%s-generated" (include "buildgrid.postgresqlName" .) -}}
{{- else -}}
{{- include "buildgrid.postgresqlName" . -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the URL, without a password. */}}
{{- define "buildgrid.urlSecretName" -}}
{{- printf "%s-url" (include "buildgrid.postgresqlName" .) -}}
{{- end -}}

{{/* The Scheduler's spec, as JSON. */}}
{{- define "buildgrid.schedulerSpec" -}}
{{- $spec := deepCopy .Values.scheduler.spec -}}
{{- if not (hasKey $spec "database") -}}
{{- if not .Values.postgresql.enabled -}}
{{- fail "scheduler.spec.database: is needed where postgresql.enabled is false: name a Secret with the URL, or set scheduler.enabled=false" -}}
{{- end -}}
{{- $url := dict "name" (include "buildgrid.urlSecretName" .) "key" "url" -}}
{{- $password := dict "name" (include "buildgrid.passwordSecretName" .) "key" "password" -}}
{{- $_ := set $spec "database" (dict "urlSecretRef" $url "passwordSecretRef" $password) -}}
{{- end -}}
{{- if and .Values.propertySet.enabled (not (hasKey $spec "propertySetRef")) -}}
{{- $_ := set $spec "propertySetRef" (dict "name" (include "buildgrid.propertySetName" .)) -}}
{{- end -}}
{{- /* The farm of a release is upgraded with it. */ -}}
{{- if not (or (hasKey $spec "image") (hasKey $spec "upgradePolicy")) -}}
{{- $_ := set $spec "upgradePolicy" "Automatic" -}}
{{- end -}}
{{- toJson $spec -}}
{{- end -}}

{{/* Whether who shows no token and speaks no TLS may use it; nothing if not. */}}
{{- define "buildgrid.isOpen" -}}
{{- if and .Values.scheduler.enabled (not .Values.scheduler.spec.auth) (not .Values.scheduler.spec.tls) -}}
yes
{{- end -}}
{{- end -}}

{{/* Whether there are trial bots; nothing if not. */}}
{{- define "buildgrid.hasTrialBot" -}}
{{- $open := include "buildgrid.isOpen" . -}}
{{- if kindIs "invalid" .Values.trialBot.enabled -}}
{{- if and $open .Values.postgresql.enabled -}}
yes
{{- end -}}
{{- else if .Values.trialBot.enabled -}}
{{- if not $open -}}
{{- fail "trialBot.enabled: trial bots need a first Scheduler without auth and TLS; set it to false" -}}
{{- end -}}
yes
{{- end -}}
{{- end -}}

{{/* An instance name that it serves; may be empty. */}}
{{- define "buildgrid.instance" -}}
{{- first (.Values.scheduler.spec.instances | default (list "")) -}}
{{- end -}}

{{/* Where clients reach it. */}}
{{- define "buildgrid.endpoint" -}}
{{- $port := 50051 -}}
{{- with .Values.scheduler.spec.service -}}{{- $port = default 50051 .port -}}{{- end -}}
{{- printf "grpc://%s-scheduler.%s.svc:%d" (include "buildgrid.schedulerName" .) .Release.Namespace (int $port) -}}
{{- end -}}
