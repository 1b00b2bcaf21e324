"""Which images run. They are kept in status, so that an upgrade of the operator replaces no pod by itself."""

from dataclasses import dataclass

from buildgrid_operator.api import SchedulerSpec
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.desired.settings import Settings


@dataclass(frozen=True, slots=True)
class Images:
    """Of the scheduler, and of the managed storage (None where there is none)."""

    scheduler: str
    storage: str | None = None


def resolve_images(
    spec: SchedulerSpec, status: SchedulerStatus, settings: Settings, *, may_upgrade: bool = True
) -> Images:
    """The images of a Scheduler.

    One that is in the spec counts. Otherwise it is the one that runs, and for a new Scheduler the operator's
    own. With upgradePolicy Automatic the operator's own takes its place once `may_upgrade`: one Scheduler
    after the other.
    """
    own = with_registry(settings.scheduler_image, settings.image_registry)
    follows = spec.upgrade_policy == "Automatic" and may_upgrade

    def resolved(wanted: str | None, running: str | None) -> str:
        if wanted is not None:
            return with_registry(wanted, settings.image_registry)
        return running if running is not None and not follows else own

    managed = spec.storage.managed
    return Images(
        scheduler=resolved(spec.image, status.image),
        storage=None if managed is None else resolved(managed.image, status.storage_image),
    )


def with_registry(image: str, registry: str | None) -> str:
    """An image of some registry: of this one, if it names none by itself.

    The first part of a name is a registry if it has a dot or a colon, or is localhost.
    """
    first, slash, _ = image.partition("/")
    names_one = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return image if registry is None or names_one else f"{registry.rstrip('/')}/{image}"


def version_of(image: str) -> str | None:
    """The tag, where it can be the value of the label app.kubernetes.io/version."""
    name = image.partition("@")[0].rpartition("/")[2]
    tag = name.partition(":")[2]
    return tag if 0 < len(tag) <= 63 and tag[0].isalnum() and tag[-1].isalnum() else None
