"""The configuration of a run: its schema, and loading from YAML files with overrides."""

from rexnet.config.detection_schema import DetectionConfig
from rexnet.config.load import dump_config, load_config, parse_config
from rexnet.config.schema import Config, RunConfig

__all__ = ["Config", "DetectionConfig", "RunConfig", "dump_config", "load_config", "parse_config"]
