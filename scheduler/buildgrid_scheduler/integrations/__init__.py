"""What a scheduler tells other services, and metrics, of jobs."""

from buildgrid_scheduler.integrations.build import build_integrations
from buildgrid_scheduler.integrations.integrations import Integrations

__all__ = ["Integrations", "build_integrations"]
