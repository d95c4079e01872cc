{{- /*
Which objects are Milvus', in CEL. What is asked for is what cannot be relabelled: the image, the command and the selector,
which is immutable, of the object as it was and as it is to be. Labels come on top, never alone as a way out.
*/ -}}

{{- /* `o` is a Deployment or StatefulSet of Milvus. */ -}}
{{- define "milvus-guard.cel.isMilvus" -}}
((has(o.spec.template.spec.containers) ? o.spec.template.spec.containers : [])
  + (has(o.spec.template.spec.initContainers) ? o.spec.template.spec.initContainers : [])).exists(c,
    (has(c.image) && c.image.matches(r'(^|/)milvus'))
    || ((has(c.command) ? c.command : []) + (has(c.args) ? c.args : [])).join(' ')
         .matches(r'(^|[\s/])milvus\s+run(\s|$)|/milvus/tools/'))
|| (has(o.spec.selector.matchLabels) && 'app.kubernetes.io/name' in o.spec.selector.matchLabels
    && o.spec.selector.matchLabels['app.kubernetes.io/name'] == 'milvus')
|| (has(o.metadata.labels) && 'helm.sh/chart' in o.metadata.labels
    && o.metadata.labels['helm.sh/chart'].startsWith('milvus-'))
{{- end }}

{{- /* `o` is a Deployment or StatefulSet of something that Milvus stands on. */ -}}
{{- define "milvus-guard.cel.isDependency" -}}
{{- $names := join "|" .Values.workloadGate.dependencies -}}
(has(o.spec.template.spec.containers) && o.spec.template.spec.containers.exists(c,
    has(c.image) && c.image.matches(r'({{ $names }})[^/]*$')))
|| (has(o.spec.selector.matchLabels) && o.spec.selector.matchLabels.exists(k,
    k in ['app', 'app.kubernetes.io/name', 'component', 'app.kubernetes.io/component']
    && o.spec.selector.matchLabels[k].matches(r'{{ $names }}')))
{{- end }}

{{- /* `o` is the Scale of a component: it has no labels of its Deployment, only the selector as text. */ -}}
{{- define "milvus-guard.cel.isMilvusScale" -}}
(has(o.metadata.name) && o.metadata.name.contains('milvus'))
|| (has(o.status) && has(o.status.selector) && (o.status.selector.contains('milvus') || o.status.selector.matches(
    r'component=(rootcoord|datacoord|indexcoord|querycoord|mixcoord|indexnode|datanode|querynode|streamingnode|proxy|standalone|cdc)(,|$)')))
{{- end }}

{{- /* `o` is a ConfigMap with a configuration of Milvus. */ -}}
{{- define "milvus-guard.cel.isMilvusConfig" -}}
has(o.data) && ['milvus.yaml', 'default.yaml', 'user.yaml'].exists(k, k in o.data)
{{- end }}

{{- /* `o` is a claim that may belong to a release with Milvus. Which release it is, only the guard can find out. */ -}}
{{- define "milvus-guard.cel.isClaim" -}}
(has(o.metadata.name) && o.metadata.name.contains('milvus'))
{{- if .Values.workloadGate.allClaimDeletions }}
|| request.operation == 'DELETE'
{{- end }}
|| (request.operation != 'CREATE' && (
    (has(o.metadata.name) && o.metadata.name.matches(r'{{ join "|" .Values.workloadGate.dependencies }}'))
    || (has(o.metadata.labels) && ['app.kubernetes.io/instance', 'release'].exists(k, k in o.metadata.labels))))
{{- end }}
