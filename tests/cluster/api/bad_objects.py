"""Objects that must be refused, by the API server and by the model alike, and what the answer must name."""

from typing import Any

from tests.cluster.api.bad import AS_IT_IS, Bad, BadEdit
from tests.cluster.api.bad_fleets import BAD_FLEET_EDITS, BAD_FLEETS, GOOD_FLEET_EDITS
from tests.cluster.api.objects import FULL, REMOVE, changed, property_set, scheduler

_RULE = {"identities": [{"subject": "**"}], "rights": ["Execute"]}
_JWKS = {"url": "https://login.example.org/keys"}
_JWT = {"name": "corp", "issuer": "https://login", "audiences": ["builds"], "jwks": _JWKS}
_HMAC = {"name": "key", "key": "secret"}


def _s(name: str, path: str, value: Any, says: str = "", **more: Any) -> Bad:
    return Bad(name, "Scheduler", path, value, says, **more)


def _p(name: str, path: str, value: Any, says: str = "", **more: Any) -> Bad:
    return Bad(name, "PropertySet", path, value, says, **more)


def _jwt(name: str, path: str, value: Any, says: str = "", **more: Any) -> Bad:
    auth = {"jwt": [_JWT], "policy": [_RULE]}
    return _s(name, f"spec.auth.jwt[0].{path}" if path else "spec.auth.jwt[0]", value, says,
              base=scheduler(auth=auth), **more)  # fmt: skip


_DATABASE_AND_SHAPE = (
    _s("no spec", "spec", REMOVE),
    _s("no database", "spec.database", REMOVE),
    _s("no Secret with the database's URL", "spec.database.urlSecretRef", REMOVE),
    _s("a Secret without a key", "spec.database.urlSecretRef.key", REMOVE),
    _s(
        "a Secret with an impossible name", "spec.database.urlSecretRef.name", "Data Base", "an object's name"
    ),
    _s("a key with a slash", "spec.database.urlSecretRef.key", "a/b", "key of a Secret"),
    _s("the URL itself instead of its Secret", "spec.database.url", "postgresql://localhost/x"),
    _s("more connections than a pool has", "spec.database.poolSize", 101),
    _s("a number as text", "spec.database.poolSize", "5"),
    _s("a field that there is not", "spec.replica", 3),
    _s("a deep field that there is not", "spec.jobs.pruning.maxAges", "720h"),
    _s("no replicas", "spec.replicas", 0),
    _s("half a replica", "spec.replicas", 1.5),
    _s("a list instead of a section", "spec.jobs", []),
    _s("a section instead of a list", "spec.instances", {"main": {}}),
    _s("yes instead of true", "spec.deletion.drain", "yes"),
    _s("a name for which there can be no Service", "metadata.name", "1st.scheduler", "a letter first"),
    _s("a name that is too long", "metadata.name", "s" * 41, "40 characters or less"),
)
_PODS = (
    _s("an image with a space", "spec.image", "buildgrid scheduler:1", "must be an image"),
    _s("an empty image", "spec.image", ""),
    _s("an unknown pull policy", "spec.imagePullPolicy", "Sometimes"),
    _s("a pull secret twice", "spec.imagePullSecrets", [{"name": "a"}, {"name": "a"}]),
    _s("an image that is fixed and follows", "spec.upgradePolicy", "Automatic", "unset image",
       more={"spec.image": "x:1"}),
    _s("an amount that is none", "spec.resources.requests.cpu", "two"),
    _s("a negative amount", "spec.resources.requests.cpu", -1),
    _s("containers beside the pod's spec", "spec.podTemplate.containers", []),
    _s("a pod template as text", "spec.podTemplate.spec", "nodeSelector: {}"),
    _s("a grace of an hour", "spec.shutdown.grace", "1h", "0s to 1m"),
)  # fmt: skip
_INSTANCES = (
    _s("no instance", "spec.instances", []),
    _s("an instance twice", "spec.instances", ["main", "main"]),
    _s("an instance with an empty segment", "spec.instances[0]", "a//b", "segments joined by /",
       more={}, base=scheduler(instances=["x"])),
    _s("an instance with a keyword", "spec.instances", ["main/blobs"], "choose another"),
    _s("all namespaces, and one", "spec.allowedFleetNamespaces", ["*", "a"], "* is all namespaces"),
    _s("a namespace in capitals", "spec.allowedFleetNamespaces[0]", "Builds", "name of a namespace",
       base=scheduler(allowedFleetNamespaces=["x"])),
)  # fmt: skip
_STORAGE = (
    _s("no storage", "spec.storage", {}, "exactly one of managed, objectStore and remote"),
    _s("two storages", "spec.storage", {"managed": {}, "remote": {"endpoint": "grpc://cas:1"}},
       "exactly one of managed, objectStore and remote"),
    _s("a size in words", "spec.storage.managed.size", "10 gigabytes", "10Gi"),
    _s("a size as a number", "spec.storage.managed.size", 10),
    _s("a size below all use", "spec.storage.managed.size", "10Mi", "from 1Gi"),
    _s("more bytes than the volume has", "spec.storage.managed.maxBytes", "11Gi", "not be more than size",
       more={"spec.storage.managed.size": "10Gi"}),
    _s("an unknown retention policy", "spec.storage.managed.retentionPolicy", "Keep"),
    _s("an object store without a URL", "spec.storage.objectStore.url", AS_IT_IS,
       more={"spec.storage.objectStore": {}}),
    _s("a bucket of an unknown kind", "spec.storage.objectStore.url", "ftp://x", "s3://BUCKET"),
    _s("an endpoint without TLS", "spec.storage.objectStore.endpoint", "http://minio", "allowHttp",
       more={"spec.storage.objectStore.url": "s3://x"}),
    _s("an unknown secret", "spec.storage.objectStore.secretRefs", {"password": _HMAC}, "known are",
       more={"spec.storage.objectStore.url": "s3://x"}),
    _s("a secret in the options", "spec.storage.objectStore.options", {"aws_secret_access_key": "x"},
       "move it to secretRefs", more={"spec.storage.objectStore.url": "s3://x"}),
    _s("an option that is a secret, too", "spec.storage.objectStore.options", {"access_key_id": "x"},
       "keep one of the two",
       more={"spec.storage.objectStore.url": "s3://x",
             "spec.storage.objectStore.secretRefs": {"access_key_id": _HMAC}}),
    _s("more requests than a store takes", "spec.storage.objectStore.requestsAtOnce", 513,
       more={"spec.storage.objectStore.url": "s3://x"}),
    _s("objects that are refreshed each minute", "spec.storage.objectStore.refreshAfter", "1m", "from 1h",
       more={"spec.storage.objectStore.url": "s3://x"}),
    _s("a remote CAS without a port", "spec.storage.remote.endpoint", "grpc://cas", "grpc://HOST:PORT"),
    _s("certificates for a plain connection", "spec.storage.remote.endpoint", "grpc://cas:1", "remove tls",
       more={"spec.storage.remote.tls": {"caSecretRef": {"name": "ca"}}}),
)  # fmt: skip
_TIMES = (
    _s("days, which durations do not have", "spec.jobs.pruning.maxAge", "30d", "720h"),
    _s("a duration as a number", "spec.jobs.maxExecutionTimeout", 3600),
    _s("no time to execute", "spec.jobs.maxExecutionTimeout", "0s", "from 1s"),
    _s("a negative duration", "spec.jobs.executionTimeoutGrace", "-1s", "a duration"),
    _s("an empty duration", "spec.bots.keepaliveTimeout", "", "must be a duration"),
    _s("bots that are gone in a second", "spec.bots.keepaliveTimeout", "1s", "from 5s"),
    _s("a thousand years", "spec.jobs.pruning.maxAge", "999999h", "876000h"),
    _s(
        "a fraction of a second where 0s is never", "spec.jobs.abandonedOperationTimeout", "10ms", "0s: never"
    ),
    _s("no attempt", "spec.jobs.maxAttempts", 0),
    _s("an empty queue", "spec.jobs.maxQueueSize", 0),
    _s("a link that is none", "spec.jobs.actionBrowserUrl", "browser", "must be a URL"),
    _s("more than all assignments", "spec.assignment.priorityPercentage", 101),
)
_AUTH = (
    _s("tokens without a policy", "spec.auth.policy", AS_IT_IS, "add a rule",
       more={"spec.auth.kubernetes": {}}),
    _s("a policy for nobody", "spec.auth.policy", [_RULE], "no effect"),
    _s("certificates that nobody is asked for", "spec.auth.mtls", {}, "needs tls.clientCaSecretRef",
       more={"spec.auth.policy": [_RULE], "spec.tls": {"secretName": "tls"}}),
    _s("a field that certificates do not have", "spec.auth.mtls.subject[0]", "Serial",
       base=changed(FULL, {"spec.auth.mtls": {"subject": ["Dns"]}})),
    _s("tls without a Secret", "spec.tls.secretName", AS_IT_IS, more={"spec.tls": {}}),
    _s("a wildcard for the server's name", "spec.tls.serverName", "*.example.org", "without *",
       more={"spec.tls.secretName": "tls"}),
    _s("an authority in no ConfigMap", "spec.tls.caConfigMapRef.name", AS_IT_IS,
       more={"spec.tls": {"secretName": "tls", "caConfigMapRef": {}}}),
    _jwt("an issuer without keys", "", AS_IT_IS, "exactly one of jwks and secretRef",
         more={"spec.auth.jwt[0].jwks": REMOVE}),
    _jwt("an issuer with two kinds of keys", "", AS_IT_IS, "exactly one of jwks and secretRef",
         more={"spec.auth.jwt[0].secretRef": _HMAC}),
    _jwt("an issuer without audiences", "audiences", REMOVE),
    _jwt("an issuer without an audience", "audiences", []),
    _jwt("a symmetric algorithm with public keys", "algorithms", ["RS256", "HS256"], "go with secretRef"),
    _jwt("an unknown algorithm", "algorithms[0]", "none", more={"spec.auth.jwt[0].algorithms": ["none"]}),
    _jwt("an issuer without its claim", "issuer", REMOVE),
    _jwt("the name of this cluster", "name", "kubernetes", "are taken"),
    _jwt("a name with a space", "name", "my corp", "letters, digits"),
    _jwt("clocks that differ by an hour", "leeway", "1h", "5m"),
    _jwt("keys from nowhere", "jwks", {}, "exactly one of url and configMapRef"),
    _jwt("a token sent in the clear", "jwks.tokenSecretRef", _HMAC, "https",
         more={"spec.auth.jwt[0].jwks.url": "http://login.example.org"}),
    _jwt("whom to believe, for a ConfigMap", "jwks.caSecretRef", {"name": "ca"}, "with url only",
         more={"spec.auth.jwt[0].jwks.url": REMOVE,
               "spec.auth.jwt[0].jwks.configMapRef": {"name": "keys", "key": "jwks.json"}}),
    _s("issuers of one name", "spec.auth.jwt", [_JWT, _JWT | {"issuer": "https://other"}],
       more={"spec.auth.policy": [_RULE]}),
    _s("one issuer twice", "spec.auth.jwt", [_JWT, _JWT | {"name": "other"}], "there twice",
       more={"spec.auth.policy": [_RULE]}),
    _s("a rule for nobody", "spec.auth.policy[0].identities", [], base=FULL),
    _s("an identity of nobody", "spec.auth.policy[0].identities[0]", {}, "at least one of", base=FULL),
    _s("an unknown right", "spec.auth.policy[0].rights[0]", "Everything", base=FULL),
)  # fmt: skip
_AROUND = (
    _s("certificates for plain assets", "spec.assets.endpoint", "grpc://assets:1", "remove tls", base=FULL),
    _s("assets that are kept for a minute", "spec.assets.queuedActionRetention", "1m", "from 1h", base=FULL),
    _s("a log stream that is waited for a minute", "spec.logStreams.wait", "1m", "10s", base=FULL),
    _s("metering that is no URL", "spec.metering.url", "metering:8080", "must be a URL"),
    _s("an unknown throttling", "spec.metering.throttleAction", "deprioritize", base=FULL),
    _s("a message above a gigabyte", "spec.grpc.maxMessageSize", "2Gi", "1Gi"),
    _s("a port above all", "spec.service.port", 65536),
    _s("a Service of no type", "spec.service.type", "ExternalName"),
    _s("a node port of the cluster's Service", "spec.service.nodePort", 30000, "needs type"),
    _s("a load balancer of the cluster's Service", "spec.service.loadBalancerClass", "nlb", "needs type"),
    _s("a load balancer's callers without one", "spec.service.loadBalancerSourceRanges", ["10.0.0.0/8"],
       "needs type"),
    _s("callers' addresses of the cluster's Service", "spec.service.externalTrafficPolicy", "Local",
       "needs type"),
    _s("addresses that are none", "spec.service.loadBalancerSourceRanges[0]", "10.0.0.0", "10.0.0.0/8",
       base=FULL),
    _s("an impossible class of load balancers", "spec.service.loadBalancerClass", "a b", "optional prefix",
       base=FULL),
    _s("a route without a Gateway", "spec.grpcRoute.parentRefs", []),
    _s("a route of a host in capitals", "spec.grpcRoute.hostnames[0]", "Build.example.org", "a host such as",
       base=FULL),
    _s("an Ingress without a host", "spec.ingress.host", AS_IT_IS, more={"spec.ingress": {}}),
    _s("a peer that is nobody", "spec.networkPolicy.clients[0]", {}, "at least one of", base=FULL),
    _s("a peer that is pods and addresses", "spec.networkPolicy.clients[0].cidr", "10.0.0.0/8",
       "a peer of its own", base=FULL),
    _s("metrics that take longer than their interval", "spec.monitoring.serviceMonitor.scrapeTimeout", "1m",
       "not be longer than interval"),
    _s("an unknown log level", "spec.logging.level", "info"),
    _s("an unknown format", "spec.logging.format", "Xml"),
    _s("a logger that is none", "spec.logging.loggers", {"a b": "Info"}, "not a logger's name"),
)  # fmt: skip
_LABELS = [{"label": "a"}, {"label": "a"}]
_STATIC = property_set(static={"labels": [{"label": "a", "properties": [{"key": "k", "value": "v"}]}]})
_PROPERTY_SETS = (
    _p("neither dynamic nor static", "spec", {}, "exactly one of dynamic and static"),
    _p("dynamic and static", "spec", AS_IT_IS, "exactly one of dynamic and static",
       more={"spec.static": {"labels": [{"label": "a"}]}}),
    _p("a unique key that is not known", "spec.dynamic.uniqueKeys", ["gpu"], "add it to matchKeys"),
    _p("a label key that is not known", "spec.dynamic.labelKey", "gpu", "add it to matchKeys"),
    _p("a key that constrains and does not", "spec.dynamic.wildcardKeys", ["ISA"], "keep one of the two"),
    _p("a key twice", "spec.dynamic.matchKeys", ["ISA", "ISA"]),
    _p("an empty key", "spec.dynamic.matchKeys[0]", "", more={"spec.dynamic.matchKeys": [""]}),
    _p("a key of the scheduler's file", "spec.dynamic.matchPropertyKeys", ["ISA"]),
    _p("keys as text", "spec.dynamic.matchKeys", "ISA"),
    _p("65 keys", "spec.dynamic.matchKeys", [f"key-{number}" for number in range(65)]),
    _p("no labels", "spec.static.labels", [], base=_STATIC),
    _p("two equal labels", "spec.static.labels", _LABELS, "two have the same label", base=_STATIC),
    _p("a label without a name", "spec.static.labels[0].label", REMOVE, base=_STATIC),
    _p("a label of 201 characters", "spec.static.labels[0].label", "x" * 201, base=_STATIC),
    _p("a property without a value", "spec.static.labels[0].properties[0].value", REMOVE, base=_STATIC),
    _p("a number as a property's value", "spec.static.labels[0].properties[0].value", 8, base=_STATIC),
    _p("a name that no label can hold", "metadata.name", "p" * 64, "63 characters or less"),
)  # fmt: skip

BAD = (
    *_DATABASE_AND_SHAPE, *_PODS, *_INSTANCES, *_STORAGE, *_TIMES, *_AUTH, *_AROUND, *_PROPERTY_SETS,
    *BAD_FLEETS,
)  # fmt: skip

_BIG = scheduler("edited", storage={"managed": {"size": "10Gi", "storageClassName": "fast"}})
BAD_EDITS = (
    BadEdit("a volume that shrinks", _BIG, changed(_BIG, {"spec.storage.managed.size": "9Gi"}),
            "spec.storage.managed.size", "cannot shrink"),
    BadEdit("storage that is no longer told", _BIG, scheduler("edited"), "spec.storage", "cannot be unset"),
    BadEdit("another storage class", _BIG, changed(_BIG, {"spec.storage.managed.storageClassName": "slow"}),
            "spec.storage.managed.storageClassName", "cannot be changed"),
    BadEdit("no storage class", _BIG, changed(_BIG, {"spec.storage.managed.storageClassName": REMOVE}),
            "spec.storage.managed.storageClassName", "cannot be changed"),
    BadEdit("another class of load balancers", FULL,
            changed(FULL, {"spec.service.loadBalancerClass": "example.org/other"}),
            "spec.service.loadBalancerClass", "cannot be changed"),
    *BAD_FLEET_EDITS,
)  # fmt: skip
GOOD_EDITS = (
    (_BIG, changed(_BIG, {"spec.storage.managed.size": "0.02Ti"})),
    (_BIG, scheduler("edited", storage={"remote": {"endpoint": "grpc://cas:50051"}})),
    (scheduler("edited"), FULL | {"metadata": {"name": "edited"}}),
    *GOOD_FLEET_EDITS,
)
