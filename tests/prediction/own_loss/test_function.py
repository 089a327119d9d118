"""Files with loss functions, as people write them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from phasevae import InputError, predict
from phasevae.prediction.own_loss.function import load_function

X = np.random.default_rng(0).normal(size=(200, 3))
USUAL = "-0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()"


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def write(text: str, name: str = "a_loss.py") -> str:
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:loss"

    return write


def test_a_file_with_a_dataclass_and_a_late_import(written):
    written(f"def usual(mu, logvar):\n    return {USUAL}\n", "a_late_module.py")
    address = written(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass Weights:\n"
        "    kl: float = 0.5\n\ndef loss(recon, x, mu, logvar):\n    from a_late_module import usual\n"
        "    return (recon - x).square().sum(1).mean() + Weights().kl * usual(mu, logvar)\n"
    )
    assert predict(X, 2, loss=load_function(address)).critical_kl_weight > 0


def test_what_a_loss_prints_does_not_mix_with_the_answer(written, capsys):
    address = written(
        f"print('imported')\ndef loss(recon, x, mu, logvar):\n    print('called')\n"
        f"    return (recon - x).square().mean() + {USUAL}\n"
    )
    predict(X, 2, loss=load_function(address))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "text", ["import sys\nsys.exit(1)\n", "import argparse\nargparse.ArgumentParser().error('x')\n"]
)
def test_a_file_that_ends_the_program(written, text):
    with pytest.raises(InputError, match="ends the program when it is imported"):
        load_function(written(text))
