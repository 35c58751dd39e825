{{/* The resources, with cards in the limits: they cannot be requested otherwise. */}}
{{- define "modelport.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- with .Values.gpu -}}
{{- if .enabled -}}
{{- $_ := set $resources "limits" (merge (dict .resource (int .count)) ($resources.limits | default dict)) -}}
{{- end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{- define "modelport.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.models.volume }}
- name: models
  mountPath: /models
  readOnly: true
  {{- with .Values.models.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end }}
{{- if .Values.modelCache.enabled }}
- {name: model-cache, mountPath: /var/cache/modelport}
{{- end }}
{{- if .Values.home.enabled }}
- {name: home, mountPath: /var/lib/modelport}
{{- end }}
{{- if .Values.files }}
- {name: files, mountPath: /etc/modelport/files, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /etc/modelport/tls, readOnly: true}
{{- if .Values.tls.clientCA.existingSecret }}
- {name: client-ca, mountPath: /etc/modelport/client-ca, readOnly: true}
- {name: probe, mountPath: /etc/modelport/probe, readOnly: true}
{{- end }}
{{- end }}
{{- if include "modelport.identitiesSecret" . }}
- {name: identities, mountPath: /etc/modelport/identities, readOnly: true}
{{- end }}
{{- if .Values.identities.keysSecret }}
- {name: keys, mountPath: /etc/modelport/keys, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Secrets are readable by the group of the pod (fsGroup). */}}
{{- define "modelport.volumes" -}}
- {{ merge (dict "name" "tmp") .Values.tmp.volume | toJson }}
{{- if .Values.models.volume }}
- {{ merge (dict "name" "models") .Values.models.volume | toJson }}
{{- end }}
{{- if .Values.modelCache.enabled }}
- {{ merge (dict "name" "model-cache") .Values.modelCache.volume | toJson }}
{{- end }}
{{- if .Values.home.enabled }}
- {{ merge (dict "name" "home") .Values.home.volume | toJson }}
{{- end }}
{{- if .Values.files }}
- {name: files, configMap: {name: {{ include "modelport.fullname" . }}-files}}
{{- end }}
{{- with .Values.tls }}
{{- if .existingSecret }}
- {name: tls, secret: {secretName: {{ .existingSecret }}, defaultMode: 0440}}
{{- if .clientCA.existingSecret }}
- {name: client-ca, secret: {secretName: {{ .clientCA.existingSecret }}, defaultMode: 0440}}
- {name: probe, secret: {secretName: {{ .probeSecret }}, defaultMode: 0440}}
{{- end }}
{{- end }}
{{- end }}
{{- with include "modelport.identitiesSecret" . }}
- {name: identities, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.identities.keysSecret }}
- {name: keys, secret: {secretName: {{ . }}, defaultMode: 0440}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
