"""Files of networks as users write them: good ones, and one for each mistake."""

from __future__ import annotations

from phasevae.datasets.sample_shape import SampleShape
from phasevae.sweeps.network_file import NetworkFile, NetworkSpec

HEAD = """\
import torch
from torch import nn

def linear(n, m):
    return nn.Sequential(nn.Flatten(), nn.Linear(n, m))

class Calling(nn.Module):
    def __init__(self, function, n=4, m=4):
        super().__init__()
        self.layer, self.function = nn.Linear(n, m), function

    def forward(self, x):
        return self.function(self, x)

"""


def file_of(body: str, name: str = "mine.py", build: str = "build") -> NetworkFile:
    """A file with the function `build(shape, n)` of this body, after `HEAD`."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    return NetworkFile(name, build, f"{HEAD}def build(shape, n):\n{lines}\n")


def spec_of(body: str, shape: tuple[int, ...] = (4,), channels_last: bool = False) -> NetworkSpec:
    return NetworkSpec.of(file_of(body), SampleShape(shape, channels_last))


PLAIN = "return linear(4, 2 * n), linear(n, 4)"

GOOD = {
    "plain": PLAIN,
    "deep": """
return (
    nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 2 * n)),
    nn.Sequential(nn.Linear(n, 8), nn.SiLU(), nn.Linear(8, 4)),
)""",
    "dropout": """
return (
    nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2 * n)),
    nn.Sequential(nn.Linear(n, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 4)),
)""",
    "batch norm": """
return (
    nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2 * n)),
    nn.Sequential(nn.Linear(n, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),
)""",
    "pair": """
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.mu, self.logvar = nn.Linear(4, n), nn.Linear(4, n)

    def forward(self, x):
        return self.mu(x), self.logvar(x)

return Encoder(), linear(n, 4)""",
    "lazy": "return nn.LazyLinear(2 * n), nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(4))",
    "spectral norm": """
norm = nn.utils.parametrizations.spectral_norm
return norm(nn.Linear(4, 2 * n)), norm(nn.Linear(n, 4))""",
}

IMAGES = """
channels, height, width = shape
encoder = nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2 * n))
unflatten = nn.Unflatten(1, (3, height, width))
decoder = nn.Sequential(nn.Linear(n, 3 * height * width), unflatten, nn.Conv2d(3, channels, 1))
return encoder, decoder
"""

BAD = {
    "raises in build": (
        "raise RuntimeError('out of\\nideas')",
        "mine.py: build(): raised RuntimeError in line 16 (out of ideas)",
    ),
    "exits": ("import sys\nsys.exit(3)", "mine.py: build(): raised SystemExit in line 17 (3)"),
    "imports what is missing": ("import layers_of_mine", "raised ModuleNotFoundError in line 16 .*stands alone"),
    "returns one module": ("return linear(4, 2 * n)", r"returned a Sequential, must return \(encoder, decoder\)"),
    "returns functions": (
        "return torch.relu, linear(n, 4)",
        r"must return \(encoder, decoder\), two of torch.nn.Module",
    ),
    "shares parameters": (
        "layer = nn.Linear(4, 4)\nreturn layer, nn.Sequential(layer, nn.Linear(4, 4))",
        "encoder and decoder share parameters",
    ),
    "has no parameters": ("return linear(4, 2 * n), nn.ReLU()", "decoder: has no parameters to train"),
    "is in double precision": (
        "return linear(4, 2 * n), linear(n, 4).double()",
        "decoder: 'inner.1.weight' is torch.float64",
    ),
    "begins with NaN": (
        "e = linear(4, 2 * n)\nnn.init.constant_(e[1].bias, float('nan'))\nreturn e, linear(n, 4)",
        "encoder: 'inner.1.bias' is not finite",
    ),
    "counts too far": (
        "d = linear(n, 4)\nd.register_buffer('seen', torch.tensor(2**40))\nreturn linear(4, 2 * n), d",
        "decoder: buffer 'inner.seen' holds numbers above",
    ),
    "encoder of another width": (
        "return linear(4, n), linear(n, 4)",
        r"encoder: returned \[4, 2\] for \[4, 4\], must return \(mu, logvar\), both \[4, 2\], or one tensor \[4, 4\]",
    ),
    "encoder of three": ("return Calling(lambda m, x: (m.layer(x)[:, :n],) * 3), linear(n, 4)", "encoder: returned "),
    "encoder of nothing": ("return Calling(lambda m, x: None), linear(n, 4)", "encoder: returned a NoneType"),
    "decoder of another width": (
        "return linear(4, 2 * n), linear(n, 5)",
        r"decoder: returned \[4, 5\] for \[4, 2\], must be \[4, 4\]",
    ),
    "takes another width": (
        "return linear(6, 2 * n), linear(n, 4)",
        "encoder: in evaluation mode on 4 rows: raised Runtime",
    ),
    "is written for a GPU": (
        "return Calling(lambda m, x: m.layer(x.to('cuda:7'))), linear(n, 4)",
        r"encoder: in evaluation mode on 4 rows: raised \w+ in line \d+",
    ),
    "returns NaN": ("return Calling(lambda m, x: m.layer(x).abs().neg().log()), linear(n, 4)", "encoder: returns NaN"),
    "returns doubles": (
        "return linear(4, 2 * n), Calling(lambda m, z: m.layer(z).double(), n)",
        "decoder: returns torch.float64",
    ),
    "changes its input": (
        "return nn.Sequential(nn.ReLU(inplace=True), linear(4, 2 * n)), linear(n, 4)",
        "encoder: changes its input",
    ),
    "samples in the encoder": (
        "return Calling(lambda m, x: m.layer(x) + torch.randn(len(x), 4)), linear(n, 4)",
        "encoder: draws random numbers in evaluation mode",
    ),
    "mixes rows": (
        "return Calling(lambda m, x: m.layer(x - x.mean(0))), linear(n, 4)",
        "encoder: mixes the rows of a batch",
    ),
    "has random numbers of NumPy": (
        "import numpy\nreturn Calling(lambda m, x: m.layer(x) + m.training * numpy.random.rand()), linear(n, 4)",
        "encoder: gives another output when it is called again",
    ),
    "is built with random numbers of NumPy": (
        "import numpy\ne = linear(4, 2 * n)\nnn.init.constant_(e[1].bias, numpy.random.rand())\nreturn e, linear(n, 4)",
        "builds other weights for the same torch seed",
    ),
    "remembers": (
        "def f(m, x):\n    m.calls = getattr(m, 'calls', 0) + m.training\n    return m.layer(x) + m.calls\n"
        "return Calling(f), linear(n, 4)",
        "encoder: gives another output when it is called again",
    ),
    "ignores its input": (
        "return Calling(lambda m, x: m.layer(torch.ones_like(x))), linear(n, 4)",
        "encoder: its output does not depend on its input",
    ),
    "ignores its parameters": (
        "return Calling(lambda m, x: x), linear(n, 4)",
        "encoder: its output does not depend on its parameters",
    ),
    "has no derivative": (
        "return Calling(lambda m, x: m.layer(x * 0).sign() * 0 + (m.layer(x) * 0).sqrt()), linear(n, 4)",
        "encoder: its derivatives are not finite",
    ),
}
"""For each mistake the body of `build`, and what the error says."""
