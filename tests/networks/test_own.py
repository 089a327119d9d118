"""Networks of the user's own: from the file to the rows of an ensemble, and what is said of their mistakes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from user_networks import BAD, GOOD, HEAD, IMAGES, PLAIN, file_of

from phasevae import InputError
from phasevae.datasets.sample_shape import SampleShape
from phasevae.networks.loading import load_function
from phasevae.networks.own import OwnArchitecture
from phasevae.sweeps.network_file import NetworkFile, NetworkSpec, network_content, network_option

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def architecture(body: str, shape=(4,), channels_last=False, n_outputs=None, **more) -> OwnArchitecture:
    sample = SampleShape(shape, channels_last)
    return OwnArchitecture(file_of(body), sample, 2, n_outputs or sample.size, **more)


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_line_that_names_file_and_function(mistake):
    body, message = BAD[mistake]
    before = torch.random.get_rng_state()
    expected = message if ".*" in message or "\\" in message else message.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=expected) as caught:
        architecture(body).tried_on(ROWS)
    assert str(caught.value).startswith("mine.py: build()") and "\n" not in str(caught.value)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "def build(:": "mine.py: line 1: not Python",
        "x = 1": "mine.py: has no function 'build'",
        "build = 3": "mine.py: has no function 'build'",
        "import torch\nraise ValueError('no')": r"mine.py: raised ValueError in line 2 \(no\)",
    }.items(),
)
def test_a_file_that_cannot_be_run(text, message):
    with pytest.raises(InputError, match=message):
        load_function(NetworkFile("mine.py", "build", text))


@pytest.mark.parametrize("fixed", [False, True])
def test_networks_of_images_say_that_the_samples_are_flat(fixed):
    body = IMAGES.replace("channels, height, width = shape", "channels, height, width = 1, 2, 2") if fixed else IMAGES
    with pytest.raises(InputError, match=r"a sample has the shape \(4,\), and images need \(channels, height, width\)"):
        architecture(body).tried_on(ROWS)


def test_other_mistakes_are_not_taken_for_images():
    with pytest.raises(InputError) as caught:
        architecture("return linear(9, 2 * n), linear(n, 4)").tried_on(ROWS)
    assert "shapes cannot be multiplied" in str(caught.value) and "images need" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"missing.py: no such file"):
        NetworkFile.read(tmp_path / "missing.py")


@pytest.mark.parametrize("name", GOOD)
def test_rows_hold_the_modules_as_they_are_built(name):
    own = architecture(GOOD[name]).tried_on(ROWS)
    rows = own.initial([3, 5, 3])
    assert torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1])
    assert torch.equal(rows[1:2], architecture(GOOD[name]).initial([5]))
    tensors = own.tensors(rows[1].numpy())
    assert np.array_equal(own.row(tensors, "weights"), rows[1].numpy())
    if name == "plain":
        assert sorted(tensors) == [f"{part}.1.{kind}" for part in ("decoder", "encoder") for kind in ("bias", "weight")]
        assert tensors["decoder.1.weight"].shape == (4, 2)
    with pytest.raises(InputError, match=r"here: encoder.* is missing or not"):
        own.row({name: array for name, array in tensors.items() if name.startswith("decoder")}, "here")


@pytest.mark.parametrize(
    ("name", "habits"), [("plain", (0, 0)), ("dropout", (1, 0)), ("batch norm", (0, 1)), ("spectral norm", (0, 1))]
)
def test_habits_are_noticed(name, habits):
    for found in architecture(GOOD[name]).tried_on(ROWS).habits:
        assert (found.is_random, found.changes_buffers) == habits


def test_global_state_is_left_alone():
    body = f"torch.manual_seed(1)\ntorch.set_default_dtype(torch.float32)\n{PLAIN}"
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    architecture(body).tried_on(ROWS)
    assert torch.equal(expected, torch.rand(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_channels_first_and_come_back_in_the_order_of_the_data(channels):
    images = np.random.default_rng(0).normal(size=(5, 4, 6, channels)).astype(np.float32)
    rows = torch.from_numpy(images.reshape(5, -1))
    own = architecture(IMAGES, (channels, 4, 6), channels_last=True).tried_on(rows)
    encoder, decoder = own.networks
    parameters = own.initial([0])
    inner_encoder, inner_decoder = (copy.deepcopy(network._module.inner) for network in own.networks)
    offset = 0
    for module in (inner_encoder, inner_decoder):
        for tensor in module.parameters():
            tensor.data = parameters[0, offset : offset + tensor.numel()].view(tensor.shape)
            offset += tensor.numel()
    with torch.no_grad():
        expected = inner_encoder(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        torch.testing.assert_close(encoder.forward(parameters, rows[None])[0][0], expected)
        z = torch.randn(5, 2)
        expected = inner_decoder(z).numpy().transpose(0, 2, 3, 1).reshape(5, -1)
        np.testing.assert_allclose(decoder.forward(parameters, z[None])[0][0].numpy(), expected, atol=1e-6)


def test_condition_and_outputs_are_given_to_who_asks():
    file = NetworkFile(
        "mine.py",
        "build",
        HEAD
        + """
class Two(nn.Module):
    def __init__(self, n, c, m):
        super().__init__()
        self.of_x, self.of_c = nn.Linear(n, m), nn.Linear(c, m)

    def forward(self, x, c):
        return self.of_x(x) + self.of_c(c)

def build(shape, n, n_condition, n_outputs):
    return Two(4, n_condition, 2 * n), Two(n, n_condition, n_outputs)
""",
    )
    own = OwnArchitecture(file, SampleShape((4,)), 2, n_outputs=8, n_condition=3)
    rows = torch.randn(5, 7)
    own = own.tried_on(rows)
    parameters = own.initial([0])
    assert own.networks[0].forward(parameters, rows[None])[0].shape == (1, 5, 4)
    assert own.networks[1].forward(parameters, torch.randn(1, 5, 5))[0].shape == (1, 5, 8)


def test_the_decoder_alone_may_see_the_condition():
    text = """
class Decoder(nn.Module):
    def __init__(self, n, c):
        super().__init__()
        self.of_z, self.of_c = nn.Linear(n, 4), nn.Linear(c, 4)

    def forward(self, z, c):
        return self.of_z(z) + self.of_c(c)

def build(shape, n, n_condition):
    return linear(4, 2 * n), Decoder(n, n_condition)
"""
    file = NetworkFile("mine.py", "build", HEAD + text)
    own = OwnArchitecture(file, SampleShape((4,)), 2, n_outputs=4, n_condition=6, encoder_sees_condition=False)
    encoder, decoder = own.tried_on(ROWS).networks
    parameters = own.initial([0])
    assert encoder.forward(parameters, ROWS[None])[0].shape == (1, 6, 4)
    assert decoder.forward(parameters, torch.randn(1, 6, 8))[0].shape == (1, 6, 4)


def test_equal_seeds_are_said(caplog):
    architecture(f"torch.manual_seed(1)\n{PLAIN}").initial([0, 1])
    architecture(PLAIN).initial([0, 1])
    assert caplog.messages == ["mine.py: build(): builds the same weights for every seed; does it seed torch itself?"]


def test_what_identifies_networks(tmp_path):
    (tmp_path / "a").mkdir()
    for place, text in (("net.py", PLAIN), ("a/other.py", PLAIN), ("changed.py", PLAIN + "  # more")):
        (tmp_path / place).write_text(f"def build(shape, n):\n    {text}\n")
    specs = [
        NetworkSpec.of(NetworkFile.read(tmp_path / place), SampleShape((4,)))
        for place in ("net.py", "a/other.py", "changed.py")
    ]
    assert specs[0].model_dump() == specs[1].model_dump() != specs[2].model_dump()
    assert NetworkSpec(**specs[0].model_dump()).file is None
    settings = [{"network": {"module": str(tmp_path / place)}} for place in ("net.py", "a/other.py", "changed.py")]
    assert network_content(settings[0]) == network_content(settings[1]) != network_content(settings[2])
    assert network_option({"network": {"module": "my nets.py", "build": "make"}}) == "--network 'my nets.py:make'"
    for mlp in ({}, {"network": {"kind": "mlp"}}):
        assert network_content(mlp) == network_option(mlp) == ""
    assert network_content({"network": {"module": str(tmp_path / "gone.py")}}) == ""
