"""The same data give the same numbers, to the last digit, whichever way they are read; and every answer says what."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import phasevae
from phasevae import InputError
from phasevae.artifacts.files import canonical_json, readable_json
from phasevae.cli import main
from phasevae.config import dataset_options, validate
from phasevae.datasets.reading import Reading, ReadingWarning, joined_reading
from phasevae.datasets.registry import dataset_from_path
from phasevae.datasets.store import load_dataset, save_dataset
from phasevae.spectrum.measure import compute_spectrum
from phasevae.spectrum.spectrum_files import read_spectrum

LATENTS, KL_WEIGHT = 3, 0.05
LOSS = {"loss": "mean-se", "kl_weight": KL_WEIGHT}


def colours(folder: Path) -> tuple[Path, np.ndarray]:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    pixels = rng.integers(0, 256, (40, 4, 5, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / "images" / f"{i:02}.png")
    return folder / "images", pixels.astype(np.float32) / np.float32(255)


def doubles(folder: Path) -> tuple[Path, np.ndarray]:
    x = np.random.default_rng(1).normal(size=(300, 3, 2)) @ np.array([[1.0, 0.4], [0.0, 0.3]]) + 3
    np.save(folder / "x.npy", x)
    return folder / "x.npy", x


def table(folder: Path) -> tuple[Path, np.ndarray]:
    x = np.random.default_rng(2).normal(size=(200, 4)) * [3, 1, 1, 0.1]
    pd.DataFrame(x, columns=list("abcd")).to_csv(folder / "x.csv", index=False)
    return folder / "x.csv", pd.read_csv(folder / "x.csv").to_numpy()


SOURCES = {"images": colours, "npy": doubles, "csv": table}
SENTENCES = {
    "images": "40 samples of 4 x 5 x 3, values 0 to 1",
    "npy": "300 samples of 3 x 2, values ",
    "csv": "200 samples of 4 features, values ",
}


def run(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """What a command prints."""
    with mock.patch.object(sys, "argv", ["phasevae", *map(str, arguments)]), warnings.catch_warnings():
        try:
            main.main()
        except SystemExit as stop:
            assert not stop.code, capsys.readouterr().err
    return capsys.readouterr().out


def as_the_workflow_does(capsys: pytest.CaptureFixture, folder: Path, **keys: object) -> None:
    """Run the commands of the rules `dataset` and `spectrum` for a data set of a configuration."""
    given = {key: value for key, value in keys.items() if value is not None}
    settings = validate({"datasets": {"mine": {"n_latent": LATENTS, "sigma2": [1.0], **given}}}, "test")["datasets"][
        "mine"
    ]
    options = canonical_json(dataset_options(settings))
    run(capsys, "dataset", settings["kind"], "--options", options, "-o", folder)
    run(capsys, "spectrum", folder, "-o", folder / "spectrum.json")


def numbers(record: dict) -> dict:
    """An answer without the warnings and advice, which need the samples."""
    return {key: value for key, value in record.items() if key not in ("warnings", "advice")}


@pytest.mark.parametrize("mode", [None, "center", "global", "per-feature"])
@pytest.mark.parametrize("kind", SOURCES)
def test_every_way_gives_the_same_numbers(kind, mode, tmp_path, capsys):
    path, x = SOURCES[kind](tmp_path)
    options = [] if mode is None else ["--standardize", mode]
    loss = ["--latent", LATENTS, "--loss", "mean-se", "--kl-weight", KL_WEIGHT, "--json"]
    keywords = {"standardize": mode}
    kind_of_data = "images" if kind == "images" else "array"
    run(capsys, "spectrum", path, *options, "-o", tmp_path / "spectrum.json")
    run(capsys, "dataset", kind_of_data, path, *options, "-o", tmp_path / "saved")
    run(capsys, "spectrum", tmp_path / "saved", "-o", tmp_path / "of_saved.json")
    as_the_workflow_does(capsys, tmp_path / "workflow", kind=kind_of_data, path=str(path), standardize=mode)
    answers = {
        "command, path": json.loads(run(capsys, "predict", path, *options, *loss)),
        "command, spectrum": json.loads(run(capsys, "predict", tmp_path / "spectrum.json", *loss)),
        "command, saved": json.loads(run(capsys, "predict", tmp_path / "saved", *loss)),
        "command, spectrum of saved": json.loads(run(capsys, "predict", tmp_path / "of_saved.json", *loss)),
        "workflow": json.loads(run(capsys, "predict", tmp_path / "workflow" / "spectrum.json", *loss)),
    }
    in_python = {
        "python, path": phasevae.predict(path, LATENTS, **LOSS, **keywords),
        "python, array": phasevae.predict(x, LATENTS, **LOSS, **keywords),
        "python, batches": phasevae.predict([x[:7], x[7:30], x[30:]], LATENTS, **LOSS, **keywords),
        "python, spectrum": phasevae.predict(str(tmp_path / "spectrum.json"), LATENTS, **LOSS),
        "python, saved": phasevae.predict(tmp_path / "saved", LATENTS, **LOSS),
    }
    answers |= {name: json.loads(readable_json(prediction.to_json())) for name, prediction in in_python.items()}
    expected = numbers(answers["command, path"])
    for name, answer in answers.items():
        actual = numbers(answer)
        if name in ("python, array", "python, batches"):  # arrays have no names of columns
            assert actual.pop("read")["sentence"].startswith(SENTENCES[kind] if mode is None else SENTENCES[kind][:20])
            assert actual == {key: value for key, value in expected.items() if key != "read"}, name
        else:
            assert actual == expected, name
    # The largest eigenvalue is that of numpy for the values in single precision.
    prepared = x.reshape(len(x), -1).astype(np.float64 if mode else np.float32).astype(np.float64)
    prepared -= prepared.mean(0) if mode else 0
    scale = {"global": np.sqrt(prepared.var(0).mean()), "per-feature": prepared.std(0)}.get(mode, 1.0)
    eigenvalue = np.linalg.eigvalsh(np.cov((prepared / scale).T, bias=True))[-1]
    assert expected["critical_variance"] == pytest.approx(eigenvalue, rel=3e-7)


# The sentence


@pytest.mark.parametrize("kind", SOURCES)
def test_every_answer_begins_with_the_sentence(kind, tmp_path, capsys):
    path, _ = SOURCES[kind](tmp_path)
    sentence = str(dataset_from_path(path).reading)
    assert sentence.startswith(SENTENCES[kind])
    assert ("columns a ... d" in sentence) == (kind == "csv")
    kind_of_data = "images" if kind == "images" else "array"
    texts = [
        run(capsys, "predict", path, "--latent", 2, "--beta", 1, "--html", tmp_path / "page.html"),
        run(capsys, "spectrum", path, "-o", tmp_path / "spectrum.json"),
        run(capsys, "dataset", kind_of_data, path, "-o", tmp_path / "saved"),
        run(capsys, "moments", path, "-o", tmp_path / "part.safetensors"),
        run(capsys, "moments", tmp_path / "saved", "-o", tmp_path / "of_saved.safetensors"),
        run(capsys, "spectrum", "--moments", tmp_path / "part.safetensors", "-o", tmp_path / "parts.json"),
        run(capsys, "predict", tmp_path / "parts.json", "--latent", 2, "--beta", 1),
        run(capsys, "predict", tmp_path / "spectrum.json", "--latent", 2, "--beta", 1),
    ]
    assert [text.splitlines()[0] for text in texts] == [sentence] * len(texts)
    assert sentence in (tmp_path / "page.html").read_text()
    for file in ("spectrum.json", "saved/data.json", "parts.json"):
        assert json.loads((tmp_path / file).read_text())["read"]["sentence"] == sentence
    assert str(read_spectrum(tmp_path / "spectrum.json").reading) == sentence
    assert str(load_dataset(tmp_path / "saved").reading) == sentence


@pytest.mark.parametrize("standardize", [[], ["--standardize", "global"]])
def test_columns_parts_and_what_was_left_out_are_in_every_answer(standardize, tmp_path, capsys):
    whole = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 4)), columns=list("abcd"))
    whole["id"] = np.random.default_rng(1).permutation(100)
    (tmp_path / "parts").mkdir()
    for name, rows in (("p1", slice(60)), ("p2", slice(60, None))):
        whole.iloc[rows].to_parquet(tmp_path / "parts" / f"{name}.parquet")
    options = ["--drop", "id", *standardize]
    texts = [
        run(capsys, "predict", tmp_path / "parts", *options, "--latent", 2, "--beta", 1),
        run(capsys, "spectrum", tmp_path / "parts", *options, "-o", tmp_path / "s.json"),
        run(capsys, "predict", tmp_path / "s.json", "--latent", 2, "--beta", 1),
        run(capsys, "dataset", "array", tmp_path / "parts", *options, "-o", tmp_path / "saved"),
        run(capsys, "predict", tmp_path / "saved", "--latent", 2, "--beta", 1),
    ]
    (sentence,) = {text.splitlines()[0] for text in texts}
    made = "standardised (global)" if standardize else "none"
    assert sentence.startswith("100 samples of 4 features, values ")
    assert sentence.endswith(
        f", columns a ... d, from 2 sources (p1.parquet 60, p2.parquet 40), left out: column id, preparation: {made}"
    )
    mode = standardize[1] if standardize else None
    prediction = phasevae.predict(tmp_path / "parts", 2, beta=1.0, drop=["id"], standardize=mode)
    assert str(prediction.reading) == sentence
    # The same numbers as those of the columns in memory.
    assert prediction.kl == phasevae.predict(whole[list("abcd")], 2, beta=1.0, standardize=mode).kl


def test_files_of_older_versions_have_no_reading(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3))
    np.save(tmp_path / "x.npy", x)
    save_dataset(dataset_from_path(tmp_path / "x.npy"), tmp_path / "saved")
    record = json.loads((tmp_path / "saved" / "data.json").read_text())
    del record["read"], record["record_sha256"]
    (tmp_path / "saved" / "data.json").write_text(json.dumps(record))
    assert load_dataset(tmp_path / "saved").reading is None
    # What can be known from the samples is named.
    assert str(phasevae.predict(tmp_path / "saved", 2, beta=1.0).reading).startswith(
        "50 samples of 3 features, values "
    )


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading(1, (1,), 0, 0.12345), "1 sample of 1 feature, values 0 to 0.1235, preparation: none"),
        (
            Reading(7, (1,), 99999.96875, 100000.0390625),
            "7 samples of 1 feature, values 99999.9688 to 100000.039, preparation: none",
        ),
        (Reading(7, (2, 3), -1.5, 65535), "7 samples of 2 x 3, values -1.5 to 65535, preparation: none"),
        (
            Reading(300, (16, 16, 3), 0, 1, (), tuple("abcdef"), (("images", 200), ("masks", 100))),
            "300 samples of 16 x 16 x 3, values 0 to 1, columns a ... f, from 2 sources (images 200, masks 100), "
            "preparation: none",
        ),
        (
            Reading(9, (4,), 0, 1, ("grey", "divided by 255"), ("age", "x8", "x9", "x10"), (), ("column id",)),
            "9 samples of 4 features, values 0 to 1, columns age, x8 ... x10, left out: column id, preparation: grey, "
            "divided by 255",
        ),
        (
            Reading(9, (9,), 0, 1, (), tuple("qwertzuio")),
            "9 samples of 9 features, values 0 to 1, columns q, w, e, r, t, ..., o, preparation: none",
        ),
        (
            Reading(9, (3,), 0, 1, (), ("400.0", "402.0", "404.0")),
            "9 samples of 3 features, values 0 to 1, columns 400.0 ... 404.0, preparation: none",
        ),
        (
            Reading(9, (1,), 0, 1, (), ("",)),
            "9 samples of 1 feature, values 0 to 1, column , preparation: none",
        ),
    ],
)
def test_the_sentence(reading, expected):
    assert str(reading) == expected
    assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading


def test_columns_of_a_table_in_memory():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 4)), columns=list("abcd"))
    assert ", columns a ... d, " in str(phasevae.predict(table, 2, beta=1.0).reading)


def test_the_reading_of_several_data_sets():
    first = Reading(10, (2,), 0, 1, ("grey",), effective_samples=5.0)
    second = Reading(20, (2,), -1, 0.5, ("grey",), left_out=("column id",), rounding=1e-9)
    joined = joined_reading([("a", first), ("b", second)])
    assert str(joined) == (
        "30 samples of 2 features, values -1 to 1, from 2 sources (a 10, b 20), left out: column id, preparation: grey"
    )
    assert joined.effective_samples == 25 and joined.rounding == 1e-9
    assert joined_reading([("a", first), ("b", None)]) is None


def test_own_losses_print_what_was_read_too(tmp_path):
    import torch
    from own_losses import kl

    def loss(recon, x, mu, logvar):
        return torch.nn.functional.mse_loss(recon, x) + kl(mu, logvar)

    path, x = doubles(tmp_path)
    expected = f"300 samples of 3 x 2, values {np.float32(x.min()):.4g} to {np.float32(x.max()):.4g}, preparation: none"
    of_path, of_array = (phasevae.predict(data, 2, loss=loss) for data in (path, x))
    assert str(of_path.reading) == str(of_array.reading) == expected
    assert readable_json(of_path.to_json()) == readable_json(of_array.to_json())
    with_target = phasevae.predict(x, 2, loss=loss, target=x[:, :1], output_shape=(1, 2))
    assert str(with_target.reading) == expected
    centred = phasevae.predict(path, 2, loss=loss, standardize="center")
    assert str(centred.reading).endswith("preparation: standardised (center)")


# Options


def test_options_of_the_readers_in_python(tmp_path):
    path, x = colours(tmp_path)
    assert phasevae.compute_spectrum(path, grey=True, size=2).reading.shape == (2, 2)
    assert phasevae.predict(path, 2, beta=1.0, grey=True, size=2, skip_damaged=True).reading.shape == (2, 2)
    monitor = phasevae.CollapseMonitor(path, 2, beta=1.0, size=2)
    assert monitor.prediction.reading.shape == (2, 2, 3)
    np.savez(tmp_path / "two.npz", a=x, b=2 * x)
    twice = phasevae.compute_spectrum(tmp_path / "two.npz", key="b").critical_variance
    assert twice == pytest.approx(4 * phasevae.compute_spectrum(x).critical_variance, rel=1e-6)


@pytest.mark.parametrize("option", [{"size": 4}, {"grey": False}, {"skip_damaged": True}, {"header": True}])
@pytest.mark.parametrize("kind", ["array", "table", "spectrum", "npy", "saved"])
def test_an_option_that_does_not_fit_is_one_line(kind, option, tmp_path):
    path, x = doubles(tmp_path)
    data = {"array": x, "npy": path, "table": pd.DataFrame(x[:, 0]), "saved": tmp_path / "saved"}
    save_dataset(dataset_from_path(path), tmp_path / "saved")
    data["spectrum"] = compute_spectrum(x)
    with pytest.raises(InputError, match=f"^[^\n]*{next(iter(option))}[^\n]*$"):
        phasevae.predict(data[kind], 2, beta=1.0, **option)


@pytest.mark.parametrize("kind", ["spectrum", "saved", "data set"])
def test_what_is_prepared_already_is_not_standardised_again(kind, tmp_path):
    path, x = doubles(tmp_path)
    dataset = dataset_from_path(path)
    save_dataset(dataset, tmp_path / "saved")
    data = {"spectrum": compute_spectrum(x), "saved": tmp_path / "saved", "data set": dataset}[kind]
    with pytest.raises(InputError, match=r"standardize.*must be|must be.*standardize"):
        phasevae.predict(data, 2, beta=1.0, standardize="center")


def test_a_mode_that_is_unknown():
    with pytest.raises(InputError, match="standardize"):
        phasevae.compute_spectrum(np.eye(3), standardize="middle")


# Single precision


OFFSET = 1e5


def far(n: int = 400) -> np.ndarray:
    return OFFSET + 0.01 * np.random.default_rng(3).normal(size=(n, 3))


def codes(prediction) -> list[str]:
    return [warning.code for warning in prediction.warnings]


def test_rounding_that_matters_is_said(tmp_path):
    x = far()
    np.save(tmp_path / "x.npy", x)
    spacing = float(np.spacing(np.float32(OFFSET)))
    share = max(np.square(x.astype(np.float32) - x).mean(0) / x.var(0))
    assert share == pytest.approx(spacing**2 / 12 / 1e-4, rel=0.2)
    for data in (x, tmp_path / "x.npy", [x[:100], x[100:]]):
        prediction = phasevae.predict(data, 2, beta=1e-4)
        assert "rounding" in codes(prediction)
        assert prediction.reading.rounding == pytest.approx(share, rel=1e-6)
        with pytest.warns(ReadingWarning, match="subtract the mean in double precision"):
            compute_spectrum(data)


@pytest.mark.parametrize("mode", ["center", "global", "per-feature"])
def test_the_mean_is_subtracted_in_double_precision(mode, tmp_path):
    x = far()
    np.save(tmp_path / "x.npy", x)
    for data in (x, tmp_path / "x.npy"):
        prediction = phasevae.predict(data, 2, beta=1e-4, standardize=mode)
        assert "rounding" not in codes(prediction)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            eigenvalue = compute_spectrum(data, standardize=mode).critical_variance
        scale = {"center": 1.0, "global": x.var(0).mean()}.get(mode)
        exact = np.cov(x.T, bias=True) / scale if scale else np.corrcoef(x.T)
        assert eigenvalue == pytest.approx(np.linalg.eigvalsh(exact)[-1], rel=1e-6)


def test_values_that_single_precision_holds_are_not_warned_of():
    rng = np.random.default_rng(0)
    for x in (rng.normal(size=(300, 3)) + 20, rng.integers(0, 255, (300, 3)), far().astype(np.float32)):
        assert "rounding" not in codes(phasevae.predict(x, 2, beta=1.0))


# Copies


def test_copies_are_said_with_their_effect(tmp_path):
    x = np.random.default_rng(0).normal(size=(500, 4))
    copied = np.tile(x, (4, 1))
    np.save(tmp_path / "x.npy", np.repeat(x, 4, axis=0))
    for data in (tmp_path / "x.npy", copied, [copied[:700], copied[700:]]):
        prediction = phasevae.predict(data, 2, beta=1.0)
        assert "duplicates" in codes(prediction)
        assert prediction.reading.effective_samples == pytest.approx(500)
        with pytest.warns(ReadingWarning, match="2000 samples are worth 500, and standard errors are 2 times as large"):
            compute_spectrum(data)
    assert "duplicates" not in codes(phasevae.predict(x, 2, beta=1.0))


def test_copies_are_said_from_a_spectrum_and_a_saved_data_set(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.tile(np.random.default_rng(0).normal(size=(200, 3)), (3, 1)))
    run(capsys, "spectrum", tmp_path / "x.npy", "-o", tmp_path / "spectrum.json")
    run(capsys, "dataset", "array", tmp_path / "x.npy", "-o", tmp_path / "saved")
    for data in (tmp_path / "spectrum.json", tmp_path / "saved"):
        assert "duplicates" in codes(phasevae.predict(data, 2, beta=1.0))


def test_a_few_copies_are_not_worth_a_warning():
    x = np.random.default_rng(0).normal(size=(500, 4))
    assert "duplicates" not in codes(phasevae.predict(np.vstack([x, x[:10]]), 2, beta=1.0))
