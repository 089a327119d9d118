"""One finished run of the workflow, which the tests share: each file that uses it works on a copy."""

from __future__ import annotations

import json
import shutil

import filelock
import pytest
from workflow_runs import Run, snakemake


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """A copy of the shared run, which is made by the first process that needs it."""
    # With pytest-xdist each process has a folder of its own within the folder of all.
    common = tmp_path_factory.getbasetemp()
    common = common.parent if common.name.startswith("popen-") else common
    original = common / "finished"
    with filelock.FileLock(common / "finished.lock"):
        if not original.exists():
            original.mkdir()
            arguments = Run(original).configured(run=("broken", "tiny"))
            result = snakemake(original, "all", "results/longer/sweep.csv", *arguments)
            (original / "result.json").write_text(json.dumps([result.returncode, result.stdout]))
    folder = tmp_path_factory.mktemp("copy") / "finished"
    shutil.copytree(original, folder)
    return Run(folder, *json.loads((folder / "result.json").read_text()))
