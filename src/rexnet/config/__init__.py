"""The configuration of a run: its schema, and the way from YAML files to a checked `Config`."""

from rexnet.config.load import dump_config, load_config, parse_config
from rexnet.config.schema import Config

__all__ = ["Config", "dump_config", "load_config", "parse_config"]
