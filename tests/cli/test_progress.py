"""The line that a training prints where there is no terminal."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from phasevae.cli.progress import training_progress


@pytest.mark.parametrize(("n", "words"), [(1, "1 model: step 5/5, "), (3, "3 models: step 5/5, ")])
def test_one_model_is_one_model(n, words, capsys):
    settings = SimpleNamespace(n_steps=5, batch=2)
    with training_progress() as show:
        show(SimpleNamespace(members=[None] * n, settings=settings, step=5))
    assert capsys.readouterr().err.startswith(words)
