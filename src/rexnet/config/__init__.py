"""The configuration of a run: its schema, and loading from YAML files with overrides."""

from rexnet.config.load import dump_config, load_config, parse_config
from rexnet.config.schema import Config

__all__ = ["Config", "dump_config", "load_config", "parse_config"]
