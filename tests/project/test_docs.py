"""The pages name what the code has: nothing is left out, and nothing is made up."""

from __future__ import annotations

import io
import pydoc
import re
import shutil
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml

from phasevae.artifacts.schemas import SCHEMAS
from phasevae.cli.main import VERBS, app
from phasevae.figures.registry import FIGURES
from phasevae.likelihoods.registry import LIKELIHOODS
from phasevae.prediction import diagnosis
from phasevae.prediction.libraries import LIBRARIES
from phasevae.prediction.losses import ALIASES, LOSSES, SCORES
from phasevae.prediction.predict import predict
from phasevae.prediction.reports import STATUSES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = DOCS / "guide"


def section(page: str, title: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """Return the code in the first column of the tables of a text."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_loss_and_every_library_has_its_row():
    assert set(first_cells(section("reference/losses.md", "Losses"))) == {*LOSSES, *ALIASES}
    assert set(first_cells(section("reference/losses.md", "Libraries"))) == set(LIBRARIES)


def test_every_warning_has_its_row():
    assert set(first_cells(section("reference/losses.md", "Warnings"))) == {*diagnosis.CHECKS, *diagnosis.NOTES}


def test_every_option_of_a_likelihood_has_its_row():
    listed = first_cells(section("reference/losses.md", "Options of likelihoods"))
    assert set(listed) == {field.name for name in used_families() for field in fields(LIKELIHOODS[name])}


def test_every_meaning_of_thresholds_is_that_of_the_likelihood():
    text = section("reference/losses.md", "Losses")
    assert [name for name in used_families() if LIKELIHOODS[name].meaning not in text] == []


def used_families() -> set[str]:
    """Return the likelihoods that losses refer to, and whose options they take."""
    return {loss.family for loss in LOSSES.values() if loss.decoder == SCORES}


def test_every_status_of_the_monitor_has_its_row():
    assert set(first_cells(section("guide/predict.md", "Watch a training"))) == set(STATUSES)


def test_every_json_key_of_a_prediction_has_its_row():
    made = predict(np.linspace(0, 1, 10)[:, None], 1, beta=1.0)
    keys = {*made.to_json(), "kl_weight_for_target"}  # the last one with --target-kl
    assert set(first_cells(section("reference/losses.md", "JSON keys"))) == keys


def test_every_verb_has_its_row():
    listed = first_cells((DOCS / "reference" / "commands.md").read_text(encoding="utf-8").split("\n## ")[0])
    assert sorted(listed) == sorted(VERBS)


def test_every_figure_has_its_row():
    assert first_cells(section("reference/artifacts.md", "Figures")) == list(FIGURES)


def test_every_key_of_the_configuration_has_its_row():
    schema = yaml.safe_load((ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))
    keys = {*schema["properties"], *schema["properties"]["cluster"]["properties"]}
    keys |= set(schema["$defs"]["dataset"]["properties"])
    page = (DOCS / "reference" / "config.md").read_text(encoding="utf-8")
    listed = first_cells(page.split("<!-- keys -->\n")[1].split("<!-- /keys -->")[0])
    assert set(listed) == keys - {"cluster", "datasets"}, "two keys are sections of the table"


@pytest.mark.parametrize("kind", ["point", "fit"])
def test_every_key_of_a_result_has_its_row(kind):
    listed = first_cells(section("reference/artifacts.md", f"{kind}.json"))
    assert set(SCHEMAS[kind]["properties"]) <= set(listed)


def test_every_target_of_make_has_its_row():
    listed = first_cells(section("reference/commands.md", "Targets of make"))
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    assert sorted(listed) == sorted(f"make {target}" for target in targets)


def test_every_option_that_the_pages_give_to_a_verb_exists():
    verbs = typer.main.get_command(app).commands
    used = 0
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for line in re.findall(r"\bphasevae (.*)", page.read_text(encoding="utf-8").replace("\\\n", " ")):
            verb, _, rest = re.split("[#`]", line)[0].partition(" ")
            if verb in verbs:
                options = re.findall(r"--[a-z][\w-]*", rest)
                known = {name for parameter in verbs[verb].params for name in parameter.opts + parameter.secondary_opts}
                assert set(options) <= known | {"--help"}, (page.name, line)
                used += len(options)
    assert used > 50


def test_every_folder_of_the_package_has_its_row_and_every_row_its_folder():
    listed = first_cells(section("reference/house.md", "The package"))
    rooms = {path.parent.relative_to(ROOT).as_posix() + "/" for path in (ROOT / "phasevae").rglob("*/*.py")}
    assert {name for name in listed if name.endswith("/")} == rooms
    assert all((ROOT / name).exists() for name in listed)


def test_every_file_that_the_map_of_the_repository_names_exists():
    text = (DOCS / "reference" / "house.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:phasevae|csrc|tests|benchmarks|workflow|docs)/[\w./-]*)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_file_that_the_pages_name_exists():
    pages = [ROOT / "README.md", ROOT / "config" / "README.md", *DOCS.rglob("*.md")]
    for page in pages:
        named = re.findall(
            r"\b(?:phasevae|csrc|tests|benchmarks|docs)/[\w/-]+\.(?:py|h|cpp|cu|md|csv)\b",
            page.read_text(encoding="utf-8"),
        )
        assert [name for name in named if not (ROOT / name).exists()] == [], page.name


def test_every_page_of_the_site_exists_and_every_page_is_on_it():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load(text)["nav"]))
    assert sorted(pages) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_every_object_of_the_python_reference_exists():
    for name in re.findall(r"^::: (\S+)$", (DOCS / "reference" / "api.md").read_text(encoding="utf-8"), re.M):
        assert pydoc.locate(name) is not None, name


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_formulas_become_mathml():
    pytest.importorskip("mkdocs")
    import sys

    sys.path.insert(0, str(DOCS))
    try:
        import hooks
    finally:
        sys.path.pop(0)
    page = '<p><span class="arithmatex">\\(a &lt; \\tfrac12\\)</span></p><div class="arithmatex">\\[x\\]</div>'
    made = hooks.on_page_content(page)
    assert "arithmatex" not in made and made.count("<math") == 2
    assert 'display="block"' in made and "<mfrac>" in made


def gallery() -> pd.DataFrame:
    import predictions

    return pd.read_csv(predictions.GALLERY).fillna({"thread": ""})


def test_the_gallery_shows_what_was_measured():
    import predictions

    rows = gallery()
    page = (GUIDE / "gallery.md").read_text(encoding="utf-8")
    assert list(rows["case"].unique()) == list(predictions.CASES)
    assert predictions.markdown(rows[rows["thread"] == ""]) in page
    for case in predictions.THREADS:
        assert predictions.markdown(rows[rows["case"] == case.name]) in page
        repository, number = case.thread.split("#")
        assert repository in page and f"/{number})" in page


def test_every_loss_file_of_the_gallery_belongs_to_a_case():
    import predictions

    files = [case.loss for case in predictions.THREADS if case.is_file]
    assert sorted(files) == sorted(path.name for path in predictions.OWN.glob("*.py"))


def test_every_case_of_the_gallery_came_out_as_predicted():
    import predictions

    rows = gallery()
    for name, case in predictions.CASES.items():
        trained = rows[rows["case"] == name]
        ratios = list(trained["kl_weight"] / trained["critical_kl_weight"])
        assert ratios[:2] == pytest.approx([predictions.BELOW, predictions.ABOVE]), name
        assert list(trained["kl_weight"][2:]) == list(case.weights)
        for row, ratio in zip(trained.itertuples(), ratios, strict=True):
            assert (row.predicted_verdict == "collapsed") == (ratio > 1)
            assert row.kl < predictions.DEAD if ratio > 1 else row.kl > predictions.ALIVE, name


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks in a language."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)
    return [lines for name, lines in fenced if name == language]


def write_named_blocks(page: Path, folder: Path) -> None:
    """Write the Python blocks that begin with the name of a file into these files."""
    for code in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", code):
            (folder / name[1]).write_text(code)


PAGES = [ROOT / "README.md", DOCS / "index.md", GUIDE / "own_loss.md", GUIDE / "predict.md", GUIDE / "gallery.md"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data that the pages' commands read."""
    import predictions
    from PIL import Image

    folder = tmp_path_factory.mktemp("place")
    for name in {case.data for case in predictions.CASES.values()}:
        np.save(folder / f"{name}.npy", predictions.samples(name))
    shutil.copytree(predictions.OWN, folder / predictions.OWN.relative_to(ROOT))
    write_named_blocks(GUIDE / "own_loss.md", folder)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for i in range(40):
            stream = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, "png")
            archive.writestr(f"{i}.png", stream.getvalue())
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_written_and_print_what_it_shows(page, place, monkeypatch, capsys):
    from phasevae.cli import main

    monkeypatch.chdir(place)
    lines = [line.split("#")[0].split() for block in blocks(page, "") for line in block.splitlines()]
    commands = [words for words in lines if words[:2] in (["phasevae", "predict"], ["phasevae", "dataset"])]
    assert commands
    printed = ""
    for words in commands:
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as stopped:
            main.main()
        text = capsys.readouterr()
        assert not stopped.value.code, (words, text.err)
        printed += text.out
    spaced = " ".join(printed.split())
    for part in "...".join(blocks(page, "text")).split("..."):
        assert " ".join(part.split()) in spaced


def test_the_guide_pages_show_output():
    assert all(blocks(page, "text") for page in (ROOT / "README.md", GUIDE / "own_loss.md", GUIDE / "predict.md"))


@pytest.mark.parametrize("name", ["index.md", "guide/own_loss.md", "guide/predict.md", "guide/sweep.md"])
def test_the_python_of_a_page_runs_as_written(name, tmp_path, monkeypatch):
    """But for the length of a training, the draws of its measurement, and the number of samples."""
    import torch

    from phasevae.measurement import measure

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "LIKELIHOOD_DRAWS", 2)
    monkeypatch.setattr(measure, "MOST_PAIRS", 1)
    monkeypatch.syspath_prepend(tmp_path)
    write_named_blocks(DOCS / name, tmp_path)
    x = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
    encoder = torch.nn.Linear(20, 32)
    given = {
        "x": x,
        "train_loader": torch.utils.data.DataLoader(torch.from_numpy(x), batch_size=100),
        "epochs": 1,
        "encoder": lambda batch: encoder(batch).chunk(2, -1),
    }
    code = "\n".join(blocks(DOCS / name, "python"))
    assert code
    code = re.sub(r"\bsamples=[\d_]+", "samples=512", code).replace("size=(4_000,", "size=(300,")
    exec(compile(code, name, "exec"), given)
