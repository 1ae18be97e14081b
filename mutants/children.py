"""A plugin of coverage.py: the lines that a child process of a test runs are counted to the test.

The name of the test that runs now lies in a file; a child process reads it when its measuring begins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from coverage import CoveragePlugin

if TYPE_CHECKING:
    from coverage.plugin_support import Plugins
    from coverage.types import TConfigurable

NOW: Final = Path(os.environ.get("MUTANTS_NOW", os.devnull))


class Context(CoveragePlugin):
    """Gives the data of a process the name of the test that has started it."""

    def configure(self, config: TConfigurable) -> None:
        """Called by coverage.py once it has read its configuration."""
        config.set_option("run:context", NOW.read_text())


def coverage_init(reg: Plugins, options: dict[str, Any]) -> None:
    """Called by coverage.py when it loads this plugin."""
    reg.add_configurer(Context())
