"""A convolutional VAE for images whose sides are multiples of four: see config/conv.yaml.

The activation is SiLU, not ReLU: next to the collapsed state, where the networks start, layers of ReLU can stay silent
for good, and few channels of them represent a linear function badly. The channels are many, and the images they hold
small, because a wide layer follows the gradient further at the same noise: with 8 channels of twice the side, latents
near the transition are still far from what the data would give them after as many samples.
"""

from __future__ import annotations

from torch import Tensor, nn

CHANNELS = 32


class Encoder(nn.Module):
    """Two convolutions, each of which halves the image, and linear layers for mean and log variance."""

    def __init__(self, input_shape: tuple[int, int, int], n_latent: int):
        super().__init__()
        channels, height, width = input_shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, CHANNELS, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        features = 2 * CHANNELS * (height // 4) * (width // 4)
        self.mu = nn.Linear(features, n_latent)
        self.logvar = nn.Linear(features, n_latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and logvar, each [B, n], for images [B, channels, height, width]."""
        h = self.convolutions(x)
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    """The mirror image: a linear layer and two sub-pixel convolutions, each of which doubles the image."""

    def __init__(self, input_shape: tuple[int, int, int], n_latent: int):
        super().__init__()
        channels, height, width = input_shape
        self.layers = nn.Sequential(
            nn.Linear(n_latent, 2 * CHANNELS * (height // 4) * (width // 4)),
            nn.SiLU(),
            nn.Unflatten(1, (2 * CHANNELS, height // 4, width // 4)),
            nn.Conv2d(2 * CHANNELS, 4 * CHANNELS, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
            nn.Conv2d(CHANNELS, 4 * channels, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return the means of the pixels [B, channels, height, width] for latents [B, n]."""
        return self.layers(z)


def build(input_shape: tuple[int, int, int], n_latent: int) -> tuple[nn.Module, nn.Module]:
    """Build the encoder and the decoder of one model."""
    return Encoder(input_shape, n_latent), Decoder(input_shape, n_latent)
