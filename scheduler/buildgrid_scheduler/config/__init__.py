"""The configuration: YAML, validated by typed models."""

from buildgrid_scheduler.config.load import ConfigError, load_config
from buildgrid_scheduler.config.model import Config

__all__ = ["Config", "ConfigError", "load_config"]
