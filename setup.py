"""Build steps that pyproject.toml cannot express."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SCHEMA = Path(__file__).parent / "workflow" / "schemas" / "config.schema.yaml"


class BuildWithSchema(build_py):
    """Carry the workflow's config schema inside the wheel: `phasevae plan` validates with it too."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copy(SCHEMA, Path(self.build_lib) / "phasevae" / SCHEMA.name)


setup(cmdclass={"build_py": BuildWithSchema})
