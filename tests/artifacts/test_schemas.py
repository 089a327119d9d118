"""The line that a JSON file gets which does not meet its schema."""

from __future__ import annotations

import pytest

from phasevae import InputError
from phasevae.artifacts.files import read_json, write_json
from phasevae.artifacts.schema_errors import dotted_key


@pytest.mark.parametrize(
    ("kind", "record", "line"),
    [
        ("fit", {"critical_variance": "1e-3"}, "critical_variance: '1e-3', must be a number or null"),
        ("fit", {"critical_variance": 0}, "critical_variance: 0, must be above 0"),
        ("fit", {"ci95": [1.0]}, "ci95: [1.0], must have at least 2 items"),
        ("fit", {"ci95": [1.0, 2.0, 3.0]}, "ci95: [1.0, 2.0, 3.0], must have at most 2 items"),
        ("fit", {"models": {"hinge": {"window": [0.1, {}]}}}, "models.hinge.window[1]: {}, must be a number or null"),
        ("fit", {"models": 3}, "models: 3, must be a mapping of keys"),
        ("point", {"settings": {"schedule": "anneal"}}, "settings: key 'n_latent' is missing; it is a whole number"),
        ("point", {"kl_per_dim": []}, "kl_per_dim: [], must not be empty"),
        ("data", {"constant_features": [True]}, "constant_features[0]: True, must be a whole number"),
        (
            "data",
            {"sha256": list(range(100))},
            "sha256: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..., must be text",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_key(tmp_path, kind, record, line):
    """Without hints on YAML: the files are JSON."""
    write_json(tmp_path / "a.json", record)
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "a.json", kind=kind)
    assert str(caught.value) == f"{tmp_path / 'a.json'}: {line}"


def test_dotted_keys():
    assert dotted_key(["a", 3, "b", 0, 1]) == "a[3].b[0][1]"
    assert dotted_key([]) == ""
