"""A sample of benchmarks/damage.py: no damage of a result ends with a traceback or passes unnoticed."""

from __future__ import annotations

import random

import damage
import pytest
from damage import READERS, Outcome, judge


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASEVAE_BACKEND", "torch")
        damage.finish(folder)
        yield folder, damage.expected(folder)


@pytest.mark.parametrize("number", range(2 * len(READERS)))
def test_damage_is_refused_in_one_line_or_does_no_harm(whole, number):
    folder, before = whole
    for what, command, verdict, _ in damage.trial(folder, number, before, most=1):
        assert not verdict.startswith("FAULT"), (what, command, verdict)


@pytest.mark.parametrize("edit", damage.TABLE_EDITS)
def test_an_edit_changes_the_table(edit):
    rng = random.Random(0)
    rows = [["a", "b"], ["1", "2"], ["3", "4"], ["5", "6"]]
    changed = [list(cells) for cells in rows]
    for _ in range(100):
        edit(changed, rng.randrange(1, 4), rng.randrange(2), rng)
        if changed != rows:
            break
    assert changed != rows


def test_the_judgement():
    read, refused = Outcome(0, [], "", None), Outcome(2, ["phasevae: a: b"], "", None)
    assert judge("fit", read, True, {}) == "the same"
    assert judge("fit", refused, True, {}) == "refused"
    assert judge("fit", refused._replace(errors=["a", "b"]), False, {}).startswith("FAULT: 2 lines")
    assert judge("fit", read, True, {"a.json": {}}) == "FAULT: another result"
    assert judge("fit", read, False, {"a.json": {}}) == "read"
    assert judge("fit", read._replace(fault="x\nKeyError: 'a'"), False, {}) == "FAULT: KeyError: 'a'"
