{{/* 52 characters leave room for -headless in a name of 63. Releases may have dots in their names, and services not. */}}
{{- define "modelport.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) -}}
{{- regexReplaceAll "-+$" ($full | replace "." "-" | trunc 52) "" -}}
{{- end -}}

{{- define "modelport.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "modelport.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "modelport.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "modelport.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "modelport.fullname" .) "default") -}}
{{- end -}}

{{- define "modelport.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "modelport.identitiesSecret" -}}
{{- .Values.identities.existingSecret | default (empty .Values.identities.config | ternary "" (printf "%s-identities" (include "modelport.fullname" .))) -}}
{{- end -}}

{{- define "modelport.autoscaled" -}}
{{- if or .Values.autoscaling.hpa.enabled .Values.autoscaling.keda.enabled }}true{{ end -}}
{{- end -}}

{{/* A value as text. Numbers of values.yaml are floats, and large ones would become 1.073741824e+09. */}}
{{- define "modelport.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* The environment of the server: settings of the chart, then those of `settings`. */}}
{{- define "modelport.env" -}}
{{- $settings := .Values.settings | default dict -}}
- {name: MODELPORT_HTTP, value: "{{ .Values.listenAddress }}:{{ int .Values.ports.http }}"}
- {name: MODELPORT_GRPC, value: "{{ .Values.listenAddress }}:{{ int .Values.ports.grpc }}"}
- {name: MODELPORT_METRICS, value: "{{ .Values.listenAddress }}:{{ int .Values.ports.metrics }}"}
- {name: MODELPORT_GRACE_S, value: "{{ .Values.shutdown.graceSeconds }}"}
- {name: MODELPORT_DRAIN_S, value: "{{ .Values.shutdown.drainSeconds }}"}
{{- if not (hasKey $settings "grpc_server") }}
# The default server cannot send clients elsewhere, and reads a message before it checks its length.
- {name: MODELPORT_GRPC_SERVER, value: guarded}
{{- end }}
{{- if not (hasKey $settings "log") }}
- {name: MODELPORT_LOG, value: json}
{{- end }}
{{- if .Values.modelCache.enabled }}
- {name: MODELPORT_MODEL_CACHE, value: /var/cache/modelport}
{{- end }}
{{- if .Values.home.enabled }}
- {name: MODELPORT_HOME, value: /var/lib/modelport}
{{- end }}
{{- if .Values.gpu.enabled }}
- {name: MODELPORT_ACCELERATOR, value: cuda}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: MODELPORT_TLS_CERT, value: /etc/modelport/tls/tls.crt}
- {name: MODELPORT_TLS_KEY, value: /etc/modelport/tls/tls.key}
{{- with .Values.tls.clientCA }}
{{- if .existingSecret }}
- {name: MODELPORT_TLS_CLIENT_CA, value: "/etc/modelport/client-ca/{{ .key }}"}
{{- end }}
{{- end }}
{{- end }}
{{- if include "modelport.identitiesSecret" . }}
- {name: MODELPORT_IDENTITIES, value: /etc/modelport/identities/identities.toml}
{{- end }}
{{- range $name, $value := $settings }}
- {name: MODELPORT_{{ upper $name }}, value: {{ include "modelport.text" $value | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* How the kubelet asks: with `exec` where clients need a certificate, which the kubelet has none of. */}}
{{- define "modelport.probe" -}}
{{- $values := .root.Values }}
{{- if and $values.tls.existingSecret $values.tls.clientCA.existingSecret -}}
exec:
  command: [modelport, health{{ if eq .path "ready" }}, --ready, --cert, /etc/modelport/probe/tls.crt, --key, /etc/modelport/probe/tls.key{{ end }}]
{{- else -}}
httpGet: {path: /v2/health/{{ .path }}, port: http{{ if $values.tls.existingSecret }}, scheme: HTTPS{{ end }}}
{{- end }}
{{ toYaml .times }}
{{- end -}}
