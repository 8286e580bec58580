"""What the program knows, as data: anatomy, grading bands, limits, clinical tables and training recipes.

Every file is read once, checked, and hashed into the report; numbers carry their source beside them in the file.
"""

from configs.loader import ConfigError, anatomy, config_path, configs_sha256, grading, limits, load_toml

__all__ = ["ConfigError", "anatomy", "config_path", "configs_sha256", "grading", "limits", "load_toml"]
