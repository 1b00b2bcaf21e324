{{/* Where images come from. */}}

{{/* Takes root and name (operator, scheduler, bot, postgres). */}}
{{- define "buildgrid.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- $registry := default .root.Values.images.registry .root.Values.global.imageRegistry | trimSuffix "/" -}}
{{- if $image.digest -}}
{{- printf "%s/%s@%s" $registry $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s/%s:%s" $registry $image.repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}
