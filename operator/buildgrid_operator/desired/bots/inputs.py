"""All that decides which objects there should be for a BotFleet, and which image its bots run."""

from dataclasses import dataclass

from buildgrid_operator.api import Scheduler
from buildgrid_operator.api.bot_fleet import BotFleet, BotFleetSpec
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.images import with_registry
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.settings import Settings


@dataclass(frozen=True, slots=True)
class FleetInputs:
    """One BotFleet, and the Scheduler that it refers to."""

    fleet: BotFleet
    scheduler: Scheduler
    image: str
    """of the bot, from `resolve_bot_image`"""
    settings: Settings
    cluster_uid: str
    """by which bots of this cluster are told from those of others"""

    @property
    def spec(self) -> BotFleetSpec:
        """The BotFleet's."""
        return self.fleet.spec

    @property
    def instance(self) -> str:
        """Which of the Scheduler's its bots work for."""
        return instance_of(self.fleet, self.scheduler)

    @property
    def metadata(self) -> Metadata:
        """The BotFleet's."""
        return self.fleet.metadata

    def template_containers(self) -> list[Json]:
        """What spec.podTemplate says of the bot's container; nothing, or one item if it is well-formed."""
        template = self.spec.pod_template
        found = None if template is None or template.spec is None else template.spec.get("containers")
        listed = found if isinstance(found, list) else []
        return [each for each in listed if isinstance(each, dict) and each.get("name") == names.BOT]


def instance_of(fleet: BotFleet, scheduler: Scheduler) -> str:
    """The one of the spec, else the one that its bots work for already, else the Scheduler's first."""
    if fleet.spec.instance is not None:
        return fleet.spec.instance
    kept = fleet.status.instance
    return scheduler.spec.instances[0] if kept is None else kept


def resolve_bot_image(fleet: BotFleet, settings: Settings) -> str:
    """The image of a fleet's bots: that of the spec, else the one that runs, else the operator's own.

    Raises InvalidSpec where there is none of them.
    """
    if fleet.spec.image is not None:
        return with_registry(fleet.spec.image, settings.image_registry)
    if fleet.status.image:
        return fleet.status.image
    if not settings.bot_image:
        message = "is needed: the operator was started without --bot-image; set it, or start it with one"
        raise InvalidSpec([Problem("spec.image", message)])
    return with_registry(settings.bot_image, settings.image_registry)
