"""The files that a pod mounts: keys of Secrets and ConfigMaps, and tokens of its own.

They are never environment variables and never single files of a volume (subPath): kubelet renews neither.
Paths are a promise: a pod that an older operator made keeps its mounts while it reads a newer configuration.
"""

import hashlib
import math
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from buildgrid_operator.desired.names import Json

ROOT = "/run/buildgrid"
_MODE = 0o440
"""The files' group is the pod's fsGroup."""
TOKEN_LIFETIME = timedelta(hours=1)
"""Of a token, where nothing asks for a longer one."""
_FOLDERS = {"secret": "secrets", "config-map": "config-maps"}
_SOURCES = {"secret": ("secret", "secretName"), "config-map": ("configMap", "name")}


@dataclass(slots=True)
class Files:
    """Collects what a configuration refers to. A volume for each object, with the keys that are used."""

    _keys: dict[tuple[Literal["secret", "config-map"], str], set[str]] = field(default_factory=dict)
    _tokens: dict[str, tuple[str, timedelta]] = field(default_factory=dict)
    """audience and lifetime"""

    def secret(self, name: str, key: str) -> str:
        """The path of a key of a Secret."""
        return self._path("secret", name, key)

    def config_map(self, name: str, key: str) -> str:
        """The path of a key of a ConfigMap."""
        return self._path("config-map", name, key)

    def token(self, name: str, audience: str, lifetime: timedelta = TOKEN_LIFETIME) -> str:
        """The path of a token of the pod's ServiceAccount, which kubelet renews until the pod is ending."""
        self._tokens[name] = audience, lifetime
        return f"{ROOT}/tokens/{name}/token"

    def _path(self, kind: Literal["secret", "config-map"], name: str, key: str) -> str:
        self._keys.setdefault((kind, name), set()).add(key)
        return f"{ROOT}/{_FOLDERS[kind]}/{_short(name)}/{key}"

    def volumes(self) -> list[Json]:
        """For the pod, in an order that depends on nothing else."""
        found: list[Json] = []
        for (kind, name), keys in sorted(self._keys.items()):
            source, name_field = _SOURCES[kind]
            items = [{"key": key, "path": key} for key in sorted(keys)]
            content = {name_field: name, "items": items, "defaultMode": _MODE}
            found.append({"name": f"{kind}-{_short(name)}", source: content})
        for name, (audience, lifetime) in sorted(self._tokens.items()):
            seconds = math.ceil(lifetime.total_seconds())
            token = {"audience": audience, "expirationSeconds": seconds, "path": "token"}
            projected = {"sources": [{"serviceAccountToken": token}], "defaultMode": _MODE}
            found.append({"name": f"token-{name}", "projected": projected})
        return found

    def mounts(self) -> list[Json]:
        """For each container that reads the configuration."""
        objects = [(kind, _short(name)) for kind, name in sorted(self._keys)]
        places = [(f"{kind}-{name}", f"{_FOLDERS[kind]}/{name}") for kind, name in objects]
        places += [(f"token-{name}", f"tokens/{name}") for name in sorted(self._tokens)]
        return [{"name": name, "mountPath": f"{ROOT}/{path}", "readOnly": True} for name, path in places]


def _short(name: str) -> str:
    """The object's name, made to fit the name of a volume: no dots, and at most 50 characters."""
    if len(name) <= 50 and "." not in name:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"{re.sub('[^a-z0-9]+', '-', name[:39]).strip('-')}-{digest}"
