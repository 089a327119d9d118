from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import pytest
import yaml

from phasevae.config import dataset_options, load_config, validate
from phasevae.datasets.registry import CONDITION_OPTIONS, KINDS
from phasevae.errors import InputError
from phasevae.sweeps.config_keys import TrainingSection
from phasevae.sweeps.config_schema import config_schema

ROOT = Path(__file__).parents[1]
SETTINGS = config_schema()["$defs"]["dataset"]["properties"]


def config(**changes):
    settings = {"kind": "synthetic", "n_latent": 2, "sigma2": [0.5, 0.9]} | changes
    return {"datasets": {"toy": settings}}


def message(value) -> str:
    with pytest.raises(InputError) as caught:
        validate(value, "my.yaml")
    text = str(caught.value)
    assert text.startswith("my.yaml: ")
    assert "\n" not in text
    return text.removeprefix("my.yaml: ")


def test_later_files_override_key_by_key_and_lists_as_a_whole(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("run: [a]\ndatasets: {a: {sigma2: [1.0, 2.0], beta: 1.0}}\n")
    second.write_text("datasets: {a: {sigma2: [3.0]}, b: {beta: 2.0}}\n")
    assert load_config(first, second) == {
        "run": ["a"],
        "datasets": {"a": {"sigma2": [3.0], "beta": 1.0}, "b": {"beta": 2.0}},
    }


def test_defaults_are_filled_in_from_the_schema():
    resolved = validate(config(), "my.yaml")
    toy = resolved["datasets"]["toy"]
    assert (resolved["results"], resolved["device"], resolved["run"]) == ("results", "auto", ["toy"])
    assert {key: toy[key] for key, rule in SETTINGS.items() if "default" in rule} == {
        key: rule["default"] for key, rule in SETTINGS.items() if "default" in rule
    }


def test_the_given_configuration_is_not_changed():
    given = config()
    validate(given, "my.yaml")
    assert given == config()


def test_validating_twice_is_validating_once():
    once = validate(config(samples=2.0e3, beta=[1, 2]), "my.yaml")
    assert validate(once, "my.yaml") == once


def test_numbers_get_canonical_types():
    toy = validate(config(samples=1.0e6, n_latent=2.0, sigma2=[1, 2.5], beta=1), "my.yaml")["datasets"]["toy"]
    for key, expected in {"samples": 1_000_000, "n_latent": 2, "sigma2": [1.0, 2.5], "beta": 1.0}.items():
        assert repr(toy[key]) == repr(expected)


def test_null_removes_a_key():
    toy = validate(config(sigma2=None, sigma2_ratio=[0.5], holdout=None), "my.yaml")["datasets"]["toy"]
    assert "sigma2" not in toy
    assert toy["holdout"] == 0.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learning_rate": "1e-3"}, "datasets.toy.learning_rate: '1e-3', which YAML reads as text; write 1.0e-3"),
        ({"samples": "1e6"}, "datasets.toy.samples: '1e6', which YAML reads as text; write 1.0e+6"),
        ({"samples": "2.5e5"}, "datasets.toy.samples: '2.5e5', which YAML reads as text; write 2.5e+5"),
        ({"sigma2": [0.5, "1e-1"]}, "datasets.toy.sigma2[1]: '1e-1', which YAML reads as text; write 1.0e-1"),
        ({"beta": "0.5"}, "datasets.toy.beta: '0.5', which YAML reads as text; write 0.5 without quotes"),
        ({"learning_rate": "fast"}, "datasets.toy.learning_rate: 'fast', must be a number"),
        ({"sigma2": 0.5}, "datasets.toy.sigma2: 0.5, must be a list; write [0.5]"),
        ({"seeds": 3}, "datasets.toy.seeds: 3, must be a list; write [3]"),
        ({"seeds": []}, "datasets.toy.seeds: [], must not be empty"),
        ({"seeds": [-1]}, "datasets.toy.seeds[0]: -1, must be at least 0"),
        ({"seeds": [1, 0, 1]}, "datasets.toy.seeds: 1 is given twice; remove one"),
        ({"sigma2": [0.1, 1.0e-1]}, "datasets.toy.sigma2: 0.1 is given twice; remove one"),
        ({"sigma2": [0.5, 0]}, "datasets.toy.sigma2[1]: 0, must be at least 1e-30"),
        ({"sigma2": [1e-110]}, "datasets.toy.sigma2[0]: 1e-110, must be at least 1e-30"),
        ({"beta": 1e31}, "datasets.toy.beta: 1e+31, must be at most 1e+30"),
        ({"sigma2": [float("inf")]}, "datasets.toy.sigma2[0]: inf, must be a finite number"),
        ({"n_latent": 2.5}, "datasets.toy.n_latent: 2.5, must be a whole number"),
        ({"n_latent": True}, "datasets.toy.n_latent: True, must be a whole number"),
        ({"holdout": 1}, "datasets.toy.holdout: 1, must be below 1"),
        ({"anneal_from": 1.5}, "datasets.toy.anneal_from: 1.5, must be at most 1"),
        (
            {"bracket": True, "seeds": [0, 1000]},
            "datasets.toy.seeds: 1000, must be below 1000 with bracket: true, whose own seeds lie above",
        ),
        ({"antithetic": 1}, "datasets.toy.antithetic: 1, must be true or false"),
        (
            {"schedule": "aneal"},
            "datasets.toy.schedule: 'aneal', did you mean 'anneal'? (must be one of anneal, scratch)",
        ),
        ({"kind": "array"}, "datasets.toy: key 'path' is missing; kind 'array' needs it"),
        (
            {"kind": "digits", "size": 8},
            "datasets.toy.size: kind 'digits' has no such option; it takes: binarize, standardize, condition, "
            "condition_kind",
        ),
        ({"kind": None}, "datasets.toy: key 'kind' is missing; write one of " + ", ".join(SETTINGS["kind"]["enum"])),
        ({"n_latent": None}, "datasets.toy: key 'n_latent' is missing; it is a whole number"),
        ({"network": "mlp"}, "datasets.toy.network: 'mlp', must be a mapping of keys"),
        ({"network": {"kind": "cnn"}}, "datasets.toy.network.kind: 'cnn', must be one of mlp"),
        (
            {"network": {"module": "a.py", "kind": "mlp"}},
            "datasets.toy.network: kind and module: both are given; write {kind: mlp} or {module: FILE} "
            "(null in an overriding file removes one)",
        ),
        ({"network": {"kind": "mlp", "build": "b"}}, "datasets.toy.network.build: 'b', goes with module: FILE"),
    ],
)
def test_an_error_says_what_to_write_instead(changes, expected):
    assert message(config(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"device": "gpu"}, "device: 'gpu', must be like auto, cpu, cuda, cuda:0"),
        ({"results": "my results"}, "results: 'my results', must be like results, /scratch/results"),
        ({"results": 3}, "results: 3, must be text; write '3' with quotes"),
        ({"run": "toy"}, "run: 'toy', must be a list; write [toy]"),
        ({"run": ["tov"]}, "run: 'tov' is not among datasets; did you mean 'toy'? (known: toy)"),
        ({"datasets": {}}, "datasets: {}, must not be empty"),
        (
            {"datasets": {"a-b": {}}},
            "datasets: 'a-b' cannot be a data set's name; use letters, digits and _, a letter first",
        ),
        ({"datasets": [1]}, "datasets: [1], must be a mapping of keys"),
        (
            {"devise": "cpu"},
            "unknown key 'devise'; did you mean 'device'? (known: " + ", ".join(config_schema()["properties"]) + ")",
        ),
    ],
)
def test_an_error_outside_the_data_sets(changes, expected):
    assert message(config() | changes) == expected


def test_an_unknown_key_is_named_with_its_closest_match():
    assert message(config(simga2=[1.0])).startswith(
        "datasets.toy: unknown key 'simga2'; did you mean 'sigma2'? (known: "
    )


def test_exactly_one_grid():
    assert "both are given" in message(config(sigma2_ratio=[1.0]))
    assert "neither is given" in message(config(sigma2=None))


POISSON = {"sigma2": None, "likelihood": "poisson"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"likelihood": "poisson", "beta": [1.0]},
            "datasets.toy.sigma2: must be left out with likelihood poisson, which",
        ),
        (POISSON, "datasets.toy: beta and beta_ratio: neither is given"),
        (POISSON | {"beta": [1.0], "beta_ratio": [1.0]}, "datasets.toy: beta and beta_ratio: both are given"),
        (POISSON | {"likelihood": "poison", "beta": 1.0}, "datasets.toy.likelihood: 'poison', did you mean 'poisson'?"),
        (
            POISSON | {"likelihood": "laplace", "beta": 1.0, "likelihood_options": {"scale": -1}},
            "datasets.toy.scale: -1, must be a positive number",
        ),
        (
            POISSON | {"beta": 1.0, "likelihood_options": {"r": 1}},
            "datasets.toy.r: no option of the likelihood poisson",
        ),
        (POISSON | {"beta": 1.0, "shards": 2}, "datasets.toy.shards: 2, must be 1 with likelihood poisson"),
        (
            POISSON | {"likelihood": "module:loss.py", "beta": 1.0},
            "datasets.toy.likelihood: 'module:loss.py', must be mod",
        ),
        (
            POISSON | {"likelihood": "module:a.py:loss", "beta": 1.0, "likelihood_options": {"n_outputs": 0}},
            "datasets.toy.likelihood_options.n_outputs: 0, must be the number of outputs",
        ),
        (
            {"beta_ratio": [1.0]},
            "datasets.toy.beta_ratio: goes with a likelihood other than gaussian, must be left out",
        ),
        ({"likelihood_options": {"scale": 1}}, "datasets.toy.likelihood_options: goes with a likelihood other than"),
    ],
)
def test_sweeps_of_other_likelihoods_are_over_beta(changes, expected):
    assert message(config(**changes)).startswith(expected)


def test_other_likelihoods_may_sweep_upwards_over_a_list_of_betas():
    toy = config(**POISSON, beta_ratio=[0.5, 1.5], hysteresis_ratio=[0.5, 1.5])
    once = validate(toy, "my.yaml")
    assert "beta" not in once["datasets"]["toy"] and validate(once, "my.yaml") == once
    validate(config(**POISSON, beta=[1, 2], hysteresis_ratio=[0.5, 1.5]), "my.yaml")


@pytest.mark.parametrize("ratios", [[1.0], [0.7, 0.7, 1.2]])
def test_an_upward_sweep_needs_two_different_steps(ratios):
    assert f"toy.hysteresis_ratio: {ratios}, must be two or more different" in message(config(hysteresis_ratio=ratios))


def test_an_upward_sweep_has_one_beta():
    error = message(config(hysteresis_ratio=[0.7, 1.2], beta=[1.0, 2.0]))
    assert "toy.beta: [1.0, 2.0], must be one number with hysteresis_ratio" in error


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[1, 2]", "holds [1, 2], must be a mapping"), ("a: [1\nb: 2", "line 2: not YAML")],
)
def test_a_file_that_is_no_configuration(tmp_path, text, expected):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)) as caught:
        load_config(path)
    assert expected in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", SETTINGS["kind"]["enum"])
def test_the_schema_has_each_kinds_options(kind):
    """The schema's `kinds` and `required_for` say what the builders' signatures say."""
    parameters = inspect.signature(KINDS[kind]).parameters
    # The column beside the features is taken from `condition`.
    taken = {*parameters, *CONDITION_OPTIONS} - {"beside"}
    assert {key for key, rule in SETTINGS.items() if kind in rule.get("kinds", [])} == taken
    needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    assert {key for key, rule in SETTINGS.items() if kind in rule.get("required_for", [])} == needed


def test_the_schema_has_every_kind():
    assert set(SETTINGS["kind"]["enum"]) == set(KINDS)


def test_dataset_options_are_the_given_ones_of_the_kind():
    toy = validate(config(n_samples=100, seed=1), "my.yaml")["datasets"]["toy"]
    assert dataset_options(toy) == {"n_samples": 100, "seed": 1}


def test_config_yaml_explains_every_key():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    assert [key for key in (*config_schema()["properties"], *SETTINGS) if key not in text] == []


@pytest.mark.parametrize("override", [[], ["config/demo.yaml"]])
def test_the_shipped_configurations_are_valid(override):
    paths = [ROOT / name for name in ["config.yaml", *override]]
    resolved = validate(load_config(*paths), "shipped")
    assert resolved["run"] == yaml.safe_load(paths[-1].read_text())["run"]


def test_resources_of_cluster_jobs_are_any_names_with_text_or_whole_numbers():
    entry = {"toy": {"kind": "synthetic", "n_latent": 1, "sigma2": [1.0]}}
    resolved = validate({"datasets": entry, "cluster": {"training": {"slurm_partition": "gpu", "gpu": 2}}}, "test")
    assert resolved["cluster"] == {"jobs": {}, "training": {"slurm_partition": "gpu", "gpu": 2}, "least_minutes": 0.0}
    assert isinstance(resolved["cluster"]["training"]["gpu"], int)
    with pytest.raises(InputError, match=r"^test: cluster\.jobs\.gpu: \[1\], must be text or a whole number"):
        validate({"datasets": entry, "cluster": {"jobs": {"gpu": [1]}}}, "test")


def generated():
    return runpy.run_path(str(ROOT / "workflow" / "schemas" / "generate.py"))


def test_the_committed_schema_is_the_one_of_the_sections():
    made = generated()
    assert made["SCHEMA"].read_text(encoding="utf-8") == made["schema_text"](), "make schema"
    assert yaml.safe_load(made["schema_text"]()) == config_schema()


def test_the_table_of_keys_in_the_documentation_is_the_one_of_the_sections():
    made = generated()
    page = made["TABLE"].read_text(encoding="utf-8")
    assert page == made["page_text"](page), "make schema"


def test_config_yaml_states_the_defaults_of_the_training():
    stated = load_config(ROOT / "config.yaml")["datasets"]["gaussian"]
    defaults = {key: rule["default"] for key, rule in SETTINGS.items() if "default" in rule}
    different = {key for key in defaults if key in stated and stated[key] != defaults[key]}
    assert different == {"seeds", "extend_unconverged"}, "the paper's sweep has three seeds and may train longer"
    assert set(TrainingSection.model_fields) <= set(stated)


def test_every_key_has_a_description():
    rules = config_schema()["properties"] | SETTINGS
    assert [key for key, rule in rules.items() if not rule.get("description", "").strip()] == []
