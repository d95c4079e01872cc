{{- /*
Which objects are Milvus', in CEL. What is asked for is what cannot be relabelled: the image, the command, the mounts and the
selector, which is immutable, of the object as it was and as it is to be. Labels come on top, never alone as a way out.

An object may be of any size, and the API server bounds what an expression costs: whoever has 1 MB of arguments must still get
an answer. So a text is searched for the word first, and only a short one is matched; no macro goes through a list whose
elements may be many and small.
*/ -}}

{{- /* The pods that `o` describes, as a list. */ -}}
{{- define "milvus-guard.cel.pods" -}}
(request.resource.resource == 'pods' ? [o.spec]
  : request.resource.resource == 'cronjobs' ? [o.spec.jobTemplate.spec.template.spec]
  : has(o.spec) && has(o.spec.template) && has(o.spec.template.spec) ? [o.spec.template.spec] : [])
{{- end }}

{{- /* `o` has a pod that runs Milvus. Images are those that the guard takes for Milvus: tools around it are not. */ -}}
{{- define "milvus-guard.cel.isMilvus" -}}
{{ include "milvus-guard.cel.pods" . }}.exists(p,
  ((has(p.containers) ? p.containers : []) + (has(p.initContainers) ? p.initContainers : [])).exists(c,
    (has(c.image) && c.image.contains('milvus') && (c.image.size() > 1000
      || c.image.matches(r'(^|/)(milvusdb[-_.])?milvus([-_.](dev|gpu|cpu|arm64|amd64|hardened|secure|fips|ubi|ubi8|ubi9|debian|ubuntu|alpine|custom|patched|standalone|enterprise))*([:@][^/]*)?$')))
    || [(has(c.command) ? c.command : []) + (has(c.args) ? c.args : [])].map(words, words.join(' ')).exists(text,
         text.contains('milvus') && (text.size() > 20000
           || text.matches(r'''(^|[^a-z0-9_.-])milvus['"]?\s+['"]?run(\W|$)|/milvus/tools/|milvus_server''')))
    || (has(c.volumeMounts) && c.volumeMounts.size() <= 2000
        && c.volumeMounts.exists(m, m.mountPath.contains('/milvus/configs')))
    || (has(c.env) && c.env.size() <= 2000 && c.env.exists(e, e.name == 'MILVUSCONF'))))
|| (has(o.spec) && has(o.spec.selector) && has(o.spec.selector.matchLabels)
    && 'app.kubernetes.io/name' in o.spec.selector.matchLabels
    && o.spec.selector.matchLabels['app.kubernetes.io/name'] == 'milvus')
|| {{ include "milvus-guard.cel.saysMilvus" . }}
{{- end }}

{{- /* `o` has a label that says Milvus. */ -}}
{{- define "milvus-guard.cel.saysMilvus" -}}
(has(o.metadata.labels) && (
  ('helm.sh/chart' in o.metadata.labels && o.metadata.labels['helm.sh/chart'].matches('^milvus-[0-9]'))
  || ('app.kubernetes.io/name' in o.metadata.labels && o.metadata.labels['app.kubernetes.io/name'] == 'milvus')))
{{- end }}

{{- /* `o` has a pod of a dependency of Milvus. */ -}}
{{- define "milvus-guard.cel.isDependency" -}}
{{- $names := join "|" .Values.workloadGate.dependencies -}}
{{ include "milvus-guard.cel.pods" . }}.exists(p,
  has(p.containers) && p.containers.exists(c,
    has(c.image) && c.image.size() <= 1000 && c.image.matches(r'(^|/)({{ $names }})([:@][^/]*)?$')))
|| (has(o.spec) && has(o.spec.selector) && has(o.spec.selector.matchLabels)
    && ['app', 'app.kubernetes.io/name', 'component', 'app.kubernetes.io/component'].exists(k,
         k in o.spec.selector.matchLabels && o.spec.selector.matchLabels[k] in {{ include "milvus-guard.cel.names" . }}))
{{- end }}

{{- define "milvus-guard.cel.names" -}}
['{{ join "', '" .Values.workloadGate.dependencies }}']
{{- end }}

{{- /* `o` is the Scale of a component: it has no labels of its Deployment, only the selector as text. */ -}}
{{- define "milvus-guard.cel.isMilvusScale" -}}
(has(o.metadata.name) && o.metadata.name.contains('milvus'))
|| (has(o.status) && has(o.status.selector) && (o.status.selector.contains('milvus')
    || (o.status.selector.size() <= 10000 && o.status.selector.matches(
    r'component=(rootcoord|datacoord|indexcoord|querycoord|mixcoord|indexnode|datanode|querynode|streamingnode|proxy|standalone|cdc)(,|$)'))))
{{- end }}

{{- /* `o` is the Scale of a dependency of Milvus. */ -}}
{{- define "milvus-guard.cel.isDependencyScale" -}}
{{- $names := join "|" .Values.workloadGate.dependencies -}}
(has(o.metadata.name) && o.metadata.name.matches(r'(^|-)({{ $names }})$'))
|| (has(o.status) && has(o.status.selector) && o.status.selector.size() <= 10000 && o.status.selector.matches(
    r'(^|,)(app|app\.kubernetes\.io/name|component|app\.kubernetes\.io/component)=({{ $names }})(,|$)'))
{{- end }}

{{- /* `o` is a ConfigMap (or a Secret) with a configuration of Milvus. */ -}}
{{- define "milvus-guard.cel.isConfig" -}}
(['milvus.yaml', 'default.yaml', 'user.yaml'].exists(k,
  (has(o.data) && k in o.data) || (has(o.binaryData) && k in o.binaryData)))
{{- end }}

{{- /* Variables of Milvus that rules look at, as Milvus compares them: without case and separators. */ -}}
{{- define "milvus-guard.cel.variables" -}}
[
  'commonchannameprefixcluster', 'commonchannameprefixrootcoorddml', 'commondefaultpartitionname',
  'commonentityexpiration', 'commonprecreatedtopicenabled',
  'commonsecurityauthorizationenabled', 'commonsecurityinternaltlsenabled', 'commonsecuritysuperusers',
  'commonsecuritytlsmode', 'commonstoragetype', 'commonstorageuseloonffi', 'commonsubnameprefixdatacoordsubnameprefix',
  'commonsubnameprefixdatanodesubnameprefix', 'commonsubnameprefixproxysubnameprefix',
  'commonsubnameprefixquerynodesubnameprefix', 'commonsubnameprefixrootcoordsubnameprefix', 'datacoordgcdroptolerance',
  'datacoordgcinterval', 'datacoordgcmissingtolerance', 'datacoordtargetscalarindexversion',
  'datacoordtargetvecindexversion', 'etcdauthenabled', 'etcddatadir', 'etcdendpoints', 'etcdkvsubpath', 'etcdmetasubpath',
  'etcdrootpath', 'etcduseembed', 'kafkabrokerlist', 'localstoragepath', 'messagequeue', 'metastoretype', 'milvusconf',
  'minioaccesskeyid', 'minioaddress', 'miniobucketname', 'miniocloudprovider', 'minioiamendpoint', 'minioport',
  'miniorootpath', 'miniouseiam', 'miniousessl', 'mqtype', 'msgchannelchannameprefixcluster',
  'msgchannelchannameprefixrootcoorddml', 'msgchannelsubnameprefixdatacoordsubnameprefix',
  'msgchannelsubnameprefixdatanodesubnameprefix', 'msgchannelsubnameprefixproxysubnameprefix',
  'msgchannelsubnameprefixquerynodesubnameprefix', 'msgchannelsubnameprefixrootcoordsubnameprefix', 'natsmqserverstoredir',
  'pulsaraddress', 'pulsarnamespace', 'pulsarport', 'pulsartenant', 'rocksmqpath', 'rootcoorddmlchannelnum', 'tikvendpoints',
  'tikvkvsubpath', 'tikvmetasubpath', 'tikvrootpath', 'woodpeckermetaprefix', 'woodpeckerstoragerootpath',
  'woodpeckerstoragetype'
]
{{- end }}

{{- /*
Pods of Milvus may read settings from `o`: it has a configuration, or is a ConfigMap with a variable of Milvus, or one whose
name or label says Milvus, with keys that may be variables, files that are merged into the configuration, or scripts. The guard knows
whether a pod refers to it, and allows the change at once if none does. The core has the same in may_configure.rs.
*/ -}}
{{- define "milvus-guard.cel.mayConfigure" -}}
({{ include "milvus-guard.cel.isConfig" . }} || (request.resource.resource == 'configmaps' && (
  (has(o.data) && o.data.size() <= 2000 && o.data.exists(k,
    [k.lowerAscii()].map(t, t.startsWith('milvus.') ? t.substring(7) : t).exists(t,
      t.replace('_', '').replace('.', '') in {{ include "milvus-guard.cel.variables" . | nindent 6 | trim }})))
  || (has(o.metadata.name) && !o.metadata.name.startsWith('sh.helm.release.v1.')
    && (o.metadata.name.contains('milvus') || {{ include "milvus-guard.cel.saysMilvus" . | nindent 4 | trim }}
      || (has(o.metadata.labels) && 'app.kubernetes.io/part-of' in o.metadata.labels
        && o.metadata.labels['app.kubernetes.io/part-of'] == 'milvus'))
    && [has(o.data) ? o.data : {}, has(o.binaryData) ? o.binaryData : {}].exists(files,
      files.size() <= 2000 && files.exists(k, !k.contains('.') || k.endsWith('.yaml') || k.endsWith('.yml') || k.endsWith('.env') || k.endsWith('.sh')))))))
{{- end }}

{{- /* `o` has a configuration, and its name or a label says that it is Milvus'. */ -}}
{{- define "milvus-guard.cel.isMilvusConfig" -}}
{{ include "milvus-guard.cel.isConfig" . }} && ((has(o.metadata.name) && o.metadata.name.contains('milvus'))
  || {{ include "milvus-guard.cel.saysMilvus" . }})
{{- end }}

{{- /* `o` is a claim of Milvus itself. */ -}}
{{- define "milvus-guard.cel.isMilvusClaim" -}}
(has(o.metadata.name) && o.metadata.name.contains('milvus')) || {{ include "milvus-guard.cel.saysMilvus" . }}
{{- end }}

{{- /* `o` is a claim that may belong to a release with Milvus. Which release it is, only the guard can find out. */ -}}
{{- define "milvus-guard.cel.isClaim" -}}
request.operation != 'CREATE' && (
{{- if .Values.workloadGate.allClaimDeletions }}
  request.operation == 'DELETE' ||
{{- end }}
  (has(o.metadata.name) && o.metadata.name.matches(r'(^|-)({{ join "|" .Values.workloadGate.dependencies }})(-|$)'))
  || (has(o.metadata.labels) && ['app.kubernetes.io/instance', 'release'].exists(k, k in o.metadata.labels)))
{{- end }}

{{- /* Conditions that all webhooks for single objects have: whether anything happens that a rule could look at. */ -}}
{{- define "milvus-guard.cel.changes" -}}
# Objects of an owner that was already deleted may always be deleted.
- name: not-collected
  expression: >-
    !(request.operation == 'DELETE' && request.userInfo.username in [
      'system:serviceaccount:kube-system:generic-garbage-collector',
      'system:serviceaccount:kube-system:namespace-controller',
      'system:kube-controller-manager'])
# Pods come and go without the guard: what a controller makes was judged with what it makes it from. People are no
# controllers, even if they name an owner, and neither are accounts of the namespace itself: whoever may make pods there can act
# as one of them.
- name: not-by-a-controller
  expression: >-
    !(request.resource.resource in ['pods', 'replicasets', 'replicationcontrollers', 'jobs']
      && request.userInfo.username.startsWith('system:')
      && !request.userInfo.username.startsWith('system:serviceaccount:' + request.namespace + ':')
      && object != null && has(object.metadata.ownerReferences)
      && object.metadata.ownerReferences.exists(r, has(r.controller) && r.controller))
# Labels, annotations, finalizers and status are nobody's upgrade; nor is a claim that gets its volume. An owner is: what it
# owns goes with it.
- name: something-changes
  expression: >-
    request.operation != 'UPDATE' || has(request.subResource)
    || (has(object.metadata.ownerReferences) ? object.metadata.ownerReferences : [])
         != (has(oldObject.metadata.ownerReferences) ? oldObject.metadata.ownerReferences : [])
    || (request.resource.resource in ['configmaps', 'secrets']
        ? (has(object.data) ? object.data : {}) != (has(oldObject.data) ? oldObject.data : {})
          || (has(object.binaryData) ? object.binaryData : {}) != (has(oldObject.binaryData) ? oldObject.binaryData : {})
        : request.resource.resource == 'persistentvolumeclaims'
        ? (has(object.spec.resources) ? object.spec.resources : {}) != (has(oldObject.spec.resources) ? oldObject.spec.resources : {})
        : request.resource.resource == 'pods'
        ? object.spec.containers != oldObject.spec.containers
          || (has(object.spec.initContainers) ? object.spec.initContainers : [])
               != (has(oldObject.spec.initContainers) ? oldObject.spec.initContainers : [])
        : (has(object.spec) ? object.spec : {}) != (has(oldObject.spec) ? oldObject.spec : {}))
{{- end }}
