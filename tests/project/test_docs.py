"""The pages name what the code has: nothing is left out, and nothing is made up."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from phasevae.prediction import diagnosis
from phasevae.prediction.losses import LIBRARIES, LOSSES
from phasevae.prediction.monitor import STATUSES
from phasevae.prediction.predict import predict

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "predict.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> set[str]:
    """The code in the first column of the tables of a section."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_convention_and_preset_has_its_row():
    assert first_cells(section("Conventions")) == set(LOSSES) | set(LIBRARIES)


def test_every_warning_has_its_row():
    assert first_cells(section("Warnings")) == set(diagnosis.CHECKS)


def test_every_status_of_the_monitor_has_its_row():
    assert first_cells(section("From Python")) == set(STATUSES)


def test_every_json_key_has_its_row():
    made = predict(np.linspace(0, 1, 10)[:, None], 1, beta=1.0)
    assert first_cells(section("What comes out")) >= set(made.to_json())


def test_every_page_of_the_site_exists_and_every_page_is_on_it():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = set(re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load(text)["nav"])))
    assert pages == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_formulas_become_mathml():
    pytest.importorskip("mkdocs")
    import sys

    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import hooks
    finally:
        sys.path.pop(0)
    page = '<p><span class="arithmatex">\\(a &lt; \\tfrac12\\)</span></p><div class="arithmatex">\\[x\\]</div>'
    made = hooks.on_page_content(page)
    assert "arithmatex" not in made and made.count("<math") == 2
    assert 'display="block"' in made and "<mfrac>" in made


def test_the_gallery_shows_what_was_measured():
    import predictions

    rows = predictions.read(predictions.GALLERY)
    page = (ROOT / "docs" / "gallery.md").read_text()
    assert list(dict.fromkeys(row["case"] for row in rows)) == [case.name for case in predictions.CASES]
    assert predictions.markdown([row for row in rows if not row["thread"]]) in page
    for case in predictions.THREADS:
        assert predictions.markdown([row for row in rows if row["case"] == case.name]) in page
        repository, number = case.thread.split("#")
        assert repository in page and f"/{number})" in page


def test_every_case_of_the_gallery_came_out_as_predicted():
    import predictions

    rows = predictions.read(predictions.GALLERY)
    for case in predictions.CASES:
        found = [row for row in rows if row["case"] == case.name]
        ratios = [float(row["kl_weight"]) / float(row["critical_kl_weight"]) for row in found]
        assert ratios[:2] == pytest.approx([predictions.BELOW, predictions.ABOVE]), case.name
        assert [float(row["kl_weight"]) for row in found[2:]] == list(case.weights)
        for row, ratio in zip(found, ratios, strict=True):
            assert (row["predicted_verdict"] == "collapsed") == (ratio > 1)
            kl = float(row["kl"])
            assert kl < predictions.DEAD if ratio > 1 else kl > predictions.ALIVE, case.name


def blocks(page: Path, language: str) -> str:
    """The lines of the code blocks in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M)
    return "\n".join(lines for of, lines in found if of == language)


PAGES = [ROOT / "README.md", *(ROOT / "docs" / name for name in ("index.md", "predict.md", "gallery.md"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data that the pages' commands read."""
    import predictions
    from PIL import Image

    folder = tmp_path_factory.mktemp("place")
    for name in dict.fromkeys(case.data for case in predictions.CASES):
        np.save(folder / f"{name}.npy", predictions.samples(name))
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for i in range(40):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, "png")
            archive.writestr(f"{i}.png", stream.getvalue())
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_written(page, place, monkeypatch, capsys):
    from phasevae.cli import main

    monkeypatch.chdir(place)
    lines = [line.split("#")[0].split() for line in blocks(page, "").splitlines()]
    commands = [words for words in lines if words[:2] in (["phasevae", "predict"], ["phasevae", "dataset"])]
    assert commands
    for words in commands:
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as stopped:
            main.main()
        assert not stopped.value.code, (words, capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_shown_output_is_what_comes_out(place, monkeypatch, capsys):
    from phasevae.cli import main

    monkeypatch.chdir(place)
    shown = blocks(ROOT / "docs" / "predict.md", "text")
    printed = ""
    for words in ("dataset digits --output digits", "predict digits --latent 8 --loss mean-se"):
        monkeypatch.setattr("sys.argv", ["phasevae", *words.split()])
        with pytest.raises(SystemExit):
            main.main()
        printed += capsys.readouterr().out
    spaced = " ".join(printed.split())
    for part in shown.split("..."):
        assert " ".join(part.split()) in spaced


def test_the_python_of_a_page_runs_as_written():
    import torch

    x = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
    encoder = torch.nn.Linear(20, 32)
    given = {
        "x": x,
        "train_loader": torch.utils.data.DataLoader(torch.from_numpy(x), batch_size=100),
        "epochs": 1,
        "encoder": lambda batch: encoder(batch).chunk(2, -1),
    }
    for page in PAGES[1:3]:
        code = blocks(page, "python")
        assert code
        exec(compile(code, page.name, "exec"), dict(given))
