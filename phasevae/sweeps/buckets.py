"""The buckets of a sweep in the workflow: the jobs that train it, their points and plans, and the files they leave."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phasevae.errors import InputError
from phasevae.sweeps.plan import Point, make_plan, plan_text, read_plan
from phasevae.sweeps.points import COMPLETE, POINT_FILES

LONGEST_PLAN = 100_000
"""Most characters of the plan of a bucket: it is a part of the training command, and Linux allows 128 KiB."""


@dataclass(frozen=True)
class Sweep:
    """One pass over a data set: the first, or the second pass that brackets it.

    Attributes
    ----------
    dataset : name of the data set
    part : "" for the first pass, "second/" for the second
    folder : folder of the pass, with a slash at its end
    settings : validated settings of the pass
    """

    dataset: str
    part: str
    folder: str
    settings: Mapping[str, Any]

    @functools.cached_property
    def plan(self) -> list[Point]:
        """All points, without those that a refinement adds."""
        return make_plan(self.settings)

    @functools.cached_property
    def buckets(self) -> dict[int, list[Point]]:
        """The points of each bucket, by its number; empty buckets are left out."""
        buckets: dict[int, list[Point]] = {}
        for point in self.plan:
            buckets.setdefault(point.bucket, []).append(point)
        return dict(sorted(buckets.items()))

    @functools.cached_property
    def bucket_plans(self) -> dict[int, str]:
        """The plan of each bucket as text."""
        return {bucket: plan_text(points) for bucket, points in self.buckets.items()}

    def check(self) -> None:
        """Raise InputError if the plan of a bucket is too long for a command."""
        longest = max(map(len, self.bucket_plans.values()))
        if longest > LONGEST_PLAN:
            enough = math.ceil(self.settings["n_buckets"] * longest / (LONGEST_PLAN / 2))
            raise InputError(
                f"datasets.{self.dataset}.n_buckets: {len(self.plan)} points are too many for "
                f"{self.settings['n_buckets']} buckets; set it to {enough}"
            )

    def rule(self, bucket: int) -> str:
        """Name of the rule that trains a bucket."""
        return f"{'second' if self.part else 'train'}_{self.dataset}_{bucket}"

    def point_files(self, points: Iterable[Point]) -> list[str]:
        """All files of some points, those of each kind together, each point.json first."""
        points = list(points)
        return [f"{self.folder}{point.path}/{file}" for file in POINT_FILES for point in points]

    def complete_flags(self, points: Iterable[Point]) -> list[str]:
        """The flag files of some points: that the job of each has ended well."""
        return [f"{self.folder}{point.path}/{COMPLETE}" for point in points]

    def records(self) -> list[str]:
        """The point.json of each point of the plan, and its flag file."""
        records = [f"{self.folder}{point.path}/point.json" for point in self.plan]
        return records + self.complete_flags(self.plan)

    def refined_flags(self, refined: Path | str) -> list[str]:
        """The flag files of all buckets that have new points in the refined plan."""
        known = set(self.plan)
        buckets = {point.bucket for point in read_plan(refined) if point not in known}
        return [f"{self.folder}refined/bucket={bucket}.done" for bucket in sorted(buckets)]
