{{/* The first farm: a Scheduler, its PropertySet, its BotFleet, its database. */}}

{{/* The release's name unless there is another one. Takes root, name and value (whose name it is). */}}
{{- define "buildgrid.farmName" -}}
{{- $name := default (include "buildgrid.fullname" .root) .name -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$" $name) -}}
{{- fail (printf "%s: %q, made of the release's name, does not begin with a letter; set another one" .value $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "buildgrid.schedulerName" -}}
{{- include "buildgrid.farmName" (dict "root" . "name" .Values.scheduler.name "value" "scheduler.name") -}}
{{- end -}}

{{- define "buildgrid.botFleetName" -}}
{{- include "buildgrid.farmName" (dict "root" . "name" .Values.botFleet.name "value" "botFleet.name") -}}
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

{{/* Whether there is a first BotFleet; nothing if not. */}}
{{- define "buildgrid.hasBotFleet" -}}
{{- if kindIs "invalid" .Values.botFleet.enabled -}}
{{- if and .Values.postgresql.enabled (include "buildgrid.isOpen" .) -}}
yes
{{- end -}}
{{- else if .Values.botFleet.enabled -}}
yes
{{- end -}}
{{- end -}}

{{/* The BotFleet's spec, as JSON. */}}
{{- define "buildgrid.botFleetSpec" -}}
{{- $spec := deepCopy .Values.botFleet.spec -}}
{{- if not (hasKey $spec "schedulerRef") -}}
{{- if not .Values.scheduler.enabled -}}
{{- fail "botFleet.spec.schedulerRef: is needed where scheduler.enabled is false: name a Scheduler, or set botFleet.enabled=false" -}}
{{- end -}}
{{- $_ := set $spec "schedulerRef" (dict "name" (include "buildgrid.schedulerName" .)) -}}
{{- end -}}
{{- /* The bots of a release are upgraded with it. */ -}}
{{- if not (hasKey $spec "image") -}}
{{- $_ := set $spec "image" (include "buildgrid.image" (dict "root" . "name" "bot")) -}}
{{- if not (hasKey $spec "imagePullPolicy") -}}
{{- $_ := set $spec "imagePullPolicy" .Values.images.pullPolicy -}}
{{- end -}}
{{- end -}}
{{- toJson $spec -}}
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
