from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from linear_vaes import linear_vae
from torch import nn

from phasevae.architecture import Architecture
from phasevae.cli import main
from phasevae.datasets.registry import build_dataset
from phasevae.datasets.store import save_dataset
from phasevae.diagnosis.diagnose import diagnose
from phasevae.errors import InputError
from phasevae.figures.diagnosis import draw_diagnosis
from phasevae.kernels.own_family import OwnFamily
from phasevae.model import initialise
from phasevae.rows import Rows, given_condition
from phasevae.trained import save_model

EIGENVALUES = np.array([2.0, 1.2, 0.7, 0.3])


@pytest.fixture(scope="module")
def gaussian():
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    x = np.random.default_rng(0).normal(size=(6000, 4)) * np.sqrt(EIGENVALUES) @ basis.T
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return (x - x.mean(0)).astype(np.float32), values[::-1].copy(), vectors[:, ::-1].copy()


class Module(nn.Module):
    """A linear VAE as people write it, on samples of some shape."""

    def __init__(self, ensemble, shape=(4,)):
        super().__init__()
        architecture = ensemble.architecture
        tensors = architecture.tensors(ensemble.parameters[0].float().numpy())
        self.n, self.shape = architecture.n_latent, shape
        self.head = nn.Linear(4, 2 * self.n)
        self.body = nn.Linear(self.n, 4)
        for layer, name in ((self.head, "encoder.0"), (self.body, "decoder.0")):
            layer.weight.data = torch.tensor(tensors[f"{name}.weight"].T.copy())
            layer.bias.data = torch.tensor(tensors[f"{name}.bias"].copy())

    def encode(self, x):
        assert x.shape[1:] == self.shape and not self.training
        return self.head(x.flatten(1)).chunk(2, -1)

    def decode(self, z):
        return self.body(z).unflatten(1, self.shape)


def vae(gaussian, s, n_active, n_latent, shape=(4,)):
    _, values, vectors = gaussian
    return Module(linear_vae(values, vectors, s, n_active, n_latent), shape)


@pytest.mark.parametrize(
    ("s", "n_active", "n_latent", "verdict"),
    [
        (0.5, 1, 1, "2 more latents would live: n = 1 was too small."),
        (1.0, 1, 1, "1 more latent would live: n = 1 was too small."),
        (0.5, 3, 8, "5 of 8 latents are dead and cannot come back at this weight: prune them."),
        (0.5, 3, 4, "1 of 4 latents is dead and cannot come back at this weight: prune it."),
        (0.5, 2, 3, "A dead latent should live: the training failed, not the loss."),
        (0.5, 1, 4, "2 of 3 dead latents should live: the training failed, not the loss."),
        (0.5, 1, 2, "A dead latent should live: the training failed, not the loss; 1 beyond n = 2 would live too."),
        (0.5, 3, 3, "All 3 latents are active, and no further one would live."),
        (3.0, 0, 3, "All 3 latents are dead and cannot come back at this weight."),
    ],
)
def test_the_verdict(gaussian, s, n_active, n_latent, verdict):
    found = diagnose(vae(gaussian, s, n_active, n_latent), gaussian[0], beta=s)
    assert found.verdict == verdict
    assert len(found.remarks) == 1
    assert (found.n_latent, len(found.active), found.n_dead) == (n_latent, n_active, n_latent - n_active)
    assert str(found).splitlines()[1] == verdict


def test_each_active_latent_carries_its_component(gaussian):
    x, values, vectors = gaussian
    found = diagnose(vae(gaussian, 0.5, 2, 3), x, sigma2=0.25, beta=2.0)
    assert found.effective_variance == pytest.approx(0.5)
    for latent, component in zip(found.active, vectors.T, strict=False):
        assert abs(latent.direction @ component) == pytest.approx(1, abs=0.02)
        assert latent.strength == pytest.approx(np.sqrt(values[latent.number] - 0.5), rel=0.03)
        assert latent.second_moment == pytest.approx(1, abs=1e-4)
    assert abs(found.directions[0] @ vectors[:, 2]) == pytest.approx(1, abs=0.02)
    assert found.margin == pytest.approx(0.5 - values[2], abs=0.01)
    assert found.critical_kl_weight == pytest.approx(2 * values[2] / 0.5, rel=0.02)


def test_relevant_directions_are_the_principal_components(gaussian):
    x, values, vectors = gaussian
    found = diagnose(vae(gaussian, 0.5, 2, 3), x, sigma2=0.25, beta=2.0)
    assert len(found.relevant_directions) == 2
    for each, value, component, latent in zip(found.relevant_directions, values, vectors.T, found.active, strict=False):
        assert each.relevance == pytest.approx(value / 0.5 - 1, rel=1e-3)
        assert each.information == pytest.approx(latent.kl, rel=1e-3)
        assert each.critical_kl_weight == pytest.approx(value / 0.25, rel=1e-3)
        assert each.strength == pytest.approx(np.sqrt(value - 0.5), rel=0.03)
        assert abs(each.direction @ component) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("turned", [False, True])
def test_relevance_is_the_same_for_scaled_and_for_rotated_latents(gaussian, turned):
    """With equal posterior variances a rotated posterior is diagonal as well."""
    values, vectors = np.array([1.6, 1.6, 0.7, 0.3]), gaussian[2]
    module = Module(linear_vae(values, vectors, 0.5, 2, 2)).eval()
    # The data have other eigenvalues: the encoder is not that of the optimum, and signals differ.
    plain = diagnose(module, gaussian[0], beta=0.5)
    assert plain.relevant_directions[0].relevance > 1.2 * plain.relevant_directions[1].relevance
    scale, angle = (torch.ones(2), 0.6) if turned else (torch.tensor([0.3, 4.0]), 0.0)
    rotation = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)

    def encode(samples):
        mu, logvar = module.encode(samples)
        return mu @ rotation * scale, logvar + 2 * scale.log()

    found = diagnose(None, gaussian[0], beta=0.5, encode=encode, decode=lambda z: module.decode(z / scale @ rotation.T))
    assert [latent.kl for latent in found.latents] != pytest.approx([latent.kl for latent in plain.latents], rel=0.1)
    for each, same in zip(found.relevant_directions, plain.relevant_directions, strict=True):
        assert each.relevance == pytest.approx(same.relevance, rel=1e-4)
        assert each.information == pytest.approx(same.information, rel=1e-4)
        assert each.strength == pytest.approx(same.strength, rel=0.05)
        assert abs(each.direction @ same.direction) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("options", "s"),
    [
        ({"loss": "sse", "kl_weight": 1.0}, 0.5),
        ({"loss": "mean-se", "kl_weight": 0.25}, 0.5),
        ({"sigma2": 0.5}, 0.5),
        # The squared error of the optimum is 3 s and what no latent carries, over 4 features.
        ({"loss": "gaussian-nll", "kl_weight": 1.0}, (3 * 0.5 + 0.3) / 4),
    ],
)
def test_the_loss_gives_the_effective_variance(gaussian, options, s):
    found = diagnose(vae(gaussian, 0.5, 3, 3), gaussian[0], **options)
    assert found.effective_variance == pytest.approx(s, rel=0.03)


def of_library(module):
    return SimpleNamespace(
        encoder=lambda x: SimpleNamespace(
            **dict(zip(("embedding", "log_covariance"), module.eval().encode(x), strict=True))
        ),
        decoder=lambda z: SimpleNamespace(reconstruction=module.decode(z)),
    )


def test_all_ways_to_give_a_model_give_the_same(gaussian):
    x, module = gaussian[0], vae(gaussian, 0.5, 2, 3)
    expected = diagnose(module, x, beta=0.5)
    assert module.training
    images = vae(gaussian, 0.5, 2, 3, shape=(1, 2, 2))
    for found in (
        diagnose(of_library(module), x, beta=0.5),
        diagnose(None, x, beta=0.5, encode=module.encode, decode=module.decode),
        diagnose(images, x.reshape(-1, 1, 2, 2), beta=0.5),
        diagnose(images, x, beta=0.5, input_shape=(1, 2, 2)),
    ):
        assert found.edge == pytest.approx(expected.edge, rel=1e-6)
        assert found.verdict == expected.verdict
    assert found.sample_shape == (1, 2, 2)


def test_logits_and_probabilities_are_told_apart(gaussian):
    x = (gaussian[0] > 0).astype(np.float32)
    module = vae(gaussian, 3.0, 0, 2).eval()
    module.body.bias.data = torch.logit(torch.from_numpy(x.mean(0)))
    logits = diagnose(module, x, loss="bce")
    probabilities = diagnose(None, x, loss="bce", encode=module.encode, decode=lambda z: module.decode(z).sigmoid())
    assert probabilities.edge == pytest.approx(logits.edge, rel=1e-4)
    assert logits.edge == pytest.approx(np.linalg.eigvalsh(np.corrcoef(x.T))[-1], rel=0.01)
    assert logits.effective_variance == 1


def test_a_model_that_has_not_converged_is_said(gaussian):
    module = vae(gaussian, 0.5, 3, 4)
    module.body.weight.data *= 0.7
    module.head.weight.data *= 1.2
    found = diagnose(module, gaussian[0], beta=0.5)
    assert "not the conditional mean" in found.remarks[0] and "E mu^2 + E sigma^2" in found.remarks[1]
    assert found.corrected_edge < found.edge


def test_an_edge_that_the_decoder_alone_lifts_decides_nothing(gaussian):
    """With a decoder that is too small the first component is in the residual again."""
    module = vae(gaussian, 0.8, 2, 3)
    module.body.weight.data *= 0.4
    found = diagnose(module, gaussian[0], beta=0.8)
    assert found.n_more and found.corrected_edge < 0.8
    assert found.verdict == (
        "There are signs that the model has not converged: 2 of 3 latents are active so far, and how many should be "
        "can be said when it has."
    )
    assert "not the conditional mean" in found.remarks[0]


@pytest.mark.parametrize(
    ("n_latent", "then"), [(1, ": 1 of 1 latent is active so far"), (2, ", and a dead latent should live: ")]
)
def test_of_a_model_that_has_not_converged_the_number_of_latents_is_not_judged(gaussian, n_latent, then):
    """The model of `test_the_verdict` whose latents are too few, with the encoder of another scale."""
    module = vae(gaussian, 0.5, 1, n_latent)
    module.head.weight.data *= 1.2
    found = diagnose(module, gaussian[0], beta=0.5)
    assert found.n_more > found.n_dead and found.corrected_edge > 0.5 and len(found.remarks) > 1
    assert found.verdict.startswith(f"There are signs that the model has not converged{then}")
    assert "too small" not in found.verdict and "beyond" not in found.verdict


def test_signs_come_directly_after_the_verdict_with_what_the_spectrum_predicts(gaussian):
    """Random weights at a weight above the critical one, 2: all latents look active, and none would stay so."""
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(4, 16), nn.Linear(8, 4)
    found = diagnose(None, gaussian[0], beta=2.5, encode=lambda x: encoder(x).chunk(2, -1), decode=decoder)
    assert len(found.active) == 8 and found.signs
    assert found.verdict == (
        "There are signs that the model has not converged, and the spectrum of the data predicts that all latents die "
        "at this KL weight."
    )
    assert found.dies_at == pytest.approx(gaussian[1][0], rel=1e-3)
    lines = str(found).splitlines()
    assert tuple(lines[2 : 2 + len(found.signs)]) == found.signs
    assert lines[2 + len(found.signs)].startswith("By the spectrum of the data all latents die from a KL weight of ")
    below = diagnose(None, gaussian[0], beta=0.5, encode=lambda x: encoder(x).chunk(2, -1), decode=decoder)
    assert below.verdict.startswith("There are signs") and "all latents die" not in str(below)


def test_latents_of_the_same_direction_are_a_sign(gaussian):
    """Each of two latents has half of the signal of one: posteriors and outputs together are those of the optimum."""
    module = vae(gaussian, 0.5, 1, 1).eval()

    def encode(x):
        mu, logvar = module.encode(x)
        return mu.repeat(1, 2), logvar.repeat(1, 2)

    found = diagnose(None, gaussian[0], beta=0.5, encode=encode, decode=lambda z: module.decode(z.mean(1, True)))
    assert len(found.active) == 2 and len(found.relevant_directions) == 1
    assert "The 2 active latents carry only 1 direction" in found.signs[-1]
    assert "too small" not in found.verdict and "prune" not in found.verdict


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": None}, "loss: give one of"),
        ({"beta": None, "loss": "poisson"}, "loss: poisson, must be a squared error or a cross entropy"),
        ({"model": object()}, "model: object has neither encode nor encoder"),
        ({"model": "nowhere"}, "nowhere: no such file"),
        ({"decode": lambda z: z}, "decode: gives 3 numbers a sample, must be 4"),
        ({"decode": lambda z: {}}, "decode: gives a dict, must be a tensor"),
        ({"decode": lambda z: 1 / 0}, "decode: fails for a batch of shape"),
        ({"encode": lambda x: 3}, "encode: gives a int, must be mu and logvar"),
        ({"data": np.ones((3, 4))}, "data: 3 samples, must be at least 64"),
    ],
)
def test_bad_input_is_one_line(gaussian, change, message):
    given = {"model": vae(gaussian, 0.5, 2, 3), "data": gaussian[0], "beta": 0.5} | change
    with pytest.raises(InputError, match=message) as raised:
        diagnose(given.pop("model"), given.pop("data"), **given)
    assert "\n" not in str(raised.value)


@pytest.fixture
def point(gaussian, tmp_path):
    x, values, vectors = gaussian
    metadata = {"sigma2": 0.5, "beta": 1.0, "seed": 0, "config_digest": "0" * 64}
    folder = tmp_path / "point"
    folder.mkdir()
    ensemble = linear_vae(values, vectors, 0.5, 3, 4)
    save_model(folder / "weights.safetensors", ensemble, 0, np.zeros(4, np.float32), metadata)
    np.save(tmp_path / "x.npy", x)
    return folder


def run(*arguments, capsys):
    with mock.patch.object(sys, "argv", ["phasevae", "diagnose", *map(str, arguments)]):
        try:
            main.main()
        except SystemExit as stop:
            assert not stop.code, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_command_line(gaussian, point, tmp_path, capsys):
    expected = diagnose(point, tmp_path / "x.npy")
    assert expected.n_dead == 1
    shown = run(point, tmp_path / "x.npy", "--html", tmp_path / "page.html", capsys=capsys)
    assert shown.strip() == str(expected).strip()
    page = (tmp_path / "page.html").read_text()
    assert expected.verdict in page and page.count("<svg") == 4
    assert "src=" not in page and "<script" not in page
    for cell in expected.relevance_rows()[0]:
        assert f"<td>{cell}</td>" in page
    content = json.loads(run(point, tmp_path / "x.npy", "--json", capsys=capsys))
    assert content["verdict"] == expected.verdict and content["n_more"] == 0
    assert len(content["latents"]) == 4 and content["edge"] == pytest.approx(expected.edge)
    relevances = [each["relevance"] for each in content["relevant_directions"]]
    assert relevances == pytest.approx(gaussian[1][:3] / 0.5 - 1, rel=1e-3)
    with pytest.raises(InputError, match="must be left out for a trained point"):
        diagnose(point, tmp_path / "x.npy", beta=1.0)
    with pytest.raises(InputError, match="3 features, must be 4"):
        diagnose(point, gaussian[0][:, :3])


@pytest.mark.parametrize(
    ("converged", "verdict"),
    [
        (True, "1 of 4 latents is dead and cannot come back at this weight: prune it."),
        (None, "1 of 4 latents is dead and cannot come back at this weight: prune it."),
        (False, "This model has not converged: 3 of 4 latents are active so far, and how many should be can be said "),
    ],
)
def test_a_point_says_whether_it_has_converged(point, tmp_path, converged, verdict):
    provenance = {"data_sha256": "0" * 64, "code_hash": "0" * 64, "backend": "torch"}
    (point / "point.json").write_text(json.dumps({"converged": converged, "provenance": provenance}))
    for model in (point, point / "weights.safetensors"):
        found = diagnose(model, tmp_path / "x.npy")
        assert found.converged is converged and found.verdict.startswith(verdict)
    assert ("had not converged" in found.remarks[0]) == (converged is False)


def test_a_point_with_an_own_likelihood_is_refused(gaussian, tmp_path):
    x, values, vectors = gaussian
    term = OwnFamily({"offset": np.zeros(4), "input_mean": np.zeros(4), "input_scale": np.ones(())}, {})
    ensemble, path = linear_vae(values, vectors, 0.5, 3, 4), tmp_path / "weights.safetensors"
    save_model(path, ensemble, 0, np.zeros(4, np.float32), {"sigma2": 1.0, "beta": 0.5}, ("module:mine.py:loss", term))
    with pytest.raises(InputError, match="likelihood: your own function is not stored with the weights"):
        diagnose(path, x)


def test_a_conditional_point_is_refused_for_its_condition_and_not_for_its_data(tmp_path):
    data = save_dataset(
        build_dataset("conditional", condition_eigenvalues=[[1.0, 0.1], [0.4, 0.1]], n_samples=200), tmp_path / "data"
    )
    rows = given_condition(Rows.of(np.asarray(data.x)), data.condition)
    ensemble = initialise(Architecture(2, 1, (4,), n_condition=2), [0])
    metadata = {"sigma2": 0.5, "beta": 1.0}
    point = tmp_path / "point"
    point.mkdir()
    save_model(point / "weights.safetensors", ensemble, 0, rows.mean, metadata, conditioning=rows.conditioning)
    for digest, message in ((data.digest, "model: has a condition"), ("0" * 64, "are other data than those")):
        provenance = {"data_sha256": digest, "code_hash": "0" * 64, "backend": "torch"}
        (point / "point.json").write_text(json.dumps({"provenance": provenance}))
        with pytest.raises(InputError, match=message):
            diagnose(point, tmp_path / "data")


def test_a_file_that_builds_the_model(gaussian, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class VAE(nn.Module):\n"
        "    def encode(self, x):\n        return torch.zeros(len(x), 2), torch.zeros(len(x), 2)\n"
        "    def decode(self, z):\n        return torch.zeros(len(z), 4)\n"
        "def build():\n    return VAE()\n"
        "model = VAE()\n"
    )
    for name in ("build", "model", "VAE"):
        found = diagnose(f"{tmp_path / 'mine.py'}:{name}", gaussian[0], beta=1.0)
        assert found.verdict == "2 of 2 dead latents should live: the training failed, not the loss."


def test_the_page_shows_images_of_images(gaussian):
    images = vae(gaussian, 0.5, 2, 3, shape=(1, 2, 2))
    found = diagnose(images, gaussian[0].reshape(-1, 1, 2, 2), beta=0.5)
    figures = draw_diagnosis(found)
    assert len(figures) == 4
    assert all(figures[i].axes[0].images for i in (2, 3))
    flat = draw_diagnosis(diagnose(vae(gaussian, 0.5, 2, 3), gaussian[0], beta=0.5))
    assert not flat[2].axes[0].images
