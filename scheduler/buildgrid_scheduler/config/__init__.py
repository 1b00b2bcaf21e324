"""The configuration: YAML, validated by typed models."""

from buildgrid_scheduler.config.load import load_config
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.problems import ConfigError

__all__ = ["Config", "ConfigError", "load_config"]
