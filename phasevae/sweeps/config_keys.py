"""The keys of one data set in the configuration: type, range, default, unit and meaning, each in this one place.

The schema of the configuration, the defaults and help of the command line, the table in the documentation and
`Settings` come from here. A key's description is the text below it. What only some kinds of data take is marked by
`kinds`, what they cannot do without by `required_for`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from phasevae.artifacts.table_schemas import PLANNED

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Positives = Annotated[list[Positive], Field(min_length=1)]
Swept = Annotated[float, Field(ge=PLANNED[0], le=PLANNED[1])]
SweptValues = Annotated[list[Swept], Field(min_length=1)]

NAME_PATTERN = "^[A-Za-z][A-Za-z0-9_]*$"
"""What the name of a data set looks like."""


class Section(BaseModel):
    """A group of keys that belong together."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _of(*kinds: str, required: bool = False, default: Any = None, unit: str = "", **limits: Any) -> Any:
    """A key that only some kinds of data take."""
    extra = {"kinds": list(kinds)} | ({"required_for": list(kinds)} if required else {})
    return Field(default, json_schema_extra=extra | ({"unit": unit} if unit else {}), **limits)


def _unit(unit: str) -> dict[str, Any]:
    return {"json_schema_extra": {"unit": unit}}


_KINDS = ("synthetic", "mixture", "clusters", "conditional", "counts", "digits", "cifar10", "images", "array")


class DataSection(Section):
    """The data, and how they are prepared."""

    kind: Literal["synthetic", "mixture", "clusters", "conditional", "counts", "digits", "cifar10", "images", "array"]
    """Kind of the data: samples drawn at random (synthetic to counts), scikit-learn's handwritten
    digits, CIFAR-10, or your own images or array."""

    eigenvalues: Positives | None = _of("synthetic", "mixture", unit="squared units of the data")
    """Eigenvalues of the covariance, largest first; their number is the dimension."""

    n_samples: int | None = _of("synthetic", "mixture", "clusters", "conditional", "counts", ge=2)
    """Number of samples to draw."""

    seed: int | None = _of("synthetic", "mixture", "clusters", "conditional", "counts", ge=0)
    """Random seed of the samples (not of the training)."""

    separation: float | None = _of("mixture", ge=0, le=1, unit="standard deviations")
    """Offset of the two components along the diagonal."""

    weights: list[Positive] | None = _of("clusters", "conditional", min_length=2)
    """Probabilities of the clusters or classes, normalised; a sample of clusters is the unit vector of its cluster."""

    condition_eigenvalues: list[list[Positive]] | None = _of(
        "conditional", min_length=2, unit="squared units of the data"
    )
    """Eigenvalues of the covariance of each class, which has a basis of its own."""

    spread: float | None = _of("conditional", ge=0, unit="units of the data")
    """Standard deviation of the features of the classes' means."""

    noise: float | None = _of("clusters", ge=0, unit="units of the data")
    """Standard deviation of the noise around each cluster."""

    rates: Positives | None = _of("counts", unit="counts")
    """Mean count of each feature; their number is the dimension."""

    log_variances: Positives | None = _of("counts")
    """Eigenvalues of the covariance of the log rates, along cosines over the features; at most one for each feature."""

    dispersion: Positive | None = _of("counts")
    """Inverse dispersion r of a negative binomial, with variance m + m^2 / r given the rate m. The counts are Poisson
    when the key is left out."""

    binarize: float | None = _of("digits", ge=0, unit="pixel values of 0 to 16")
    """Pixels above this value become 1 and all others 0. Take standardize: none with it."""

    archive: str | None = _of("cifar10", min_length=1)
    """Local copy of the binary CIFAR-10 archive; it is downloaded when the key is left out."""

    split: Literal["all", "train", "test"] | None = _of("cifar10")
    """Which images of CIFAR-10."""

    path: Text | Annotated[list[Text], Field(min_length=1)] | None = _of("images", "array", required=True)
    """Your own data: a file or a folder, relative to the working directory; for arrays also a list of files, whose rows
    are joined."""

    key: str | None = _of("array", min_length=1)
    """Which array, sheet, layer or variable of a file that holds several."""

    drop: Text | Annotated[int, Field(ge=0)] | list[Text | Annotated[int, Field(ge=0)]] | None = _of("array")
    """Columns to leave out, by name or by number counted from 0. By default columns that look like ids are refused; an
    empty list, or none in it, keeps them."""

    header: bool | None = _of("array")
    """Whether the first line of a text table or sheet holds names; recognised when the key is left out."""

    size: int | None = _of("cifar10", "images", ge=1, unit="pixels")
    """Images are resized to size x size."""

    grey: bool | None = _of("cifar10", "images")
    """Turn colour images into ITU-R 601 grey."""

    skip_damaged: bool | None = _of("images")
    """Leave out images that cannot be decoded; otherwise the first one is an error."""

    standardize: Literal["none", "center", "global", "per-feature"] | None = _of(
        *(kind for kind in _KINDS if kind != "counts")
    )
    """none: as they are; center: subtract the mean of each feature; global: also divide all by one number; per-feature:
    also divide each feature by its standard deviation."""

    condition: Text | None = _of(*_KINDS)
    """What the networks see beside each row: a .npy file, column:NAME for a column of the table, or label for the
    labels that come with the data (digits, cifar10, clusters; of kind conditional without asking)."""

    condition_kind: Literal["classes", "numbers"] | None = _of(*_KINDS)
    """What the condition is. Texts and whole numbers are classes, other numbers are numbers, when the key is left
    out."""

    shards: int = Field(1, ge=1, le=1000)
    """The spectrum is computed in this many parts of the rows. Each part is two jobs, and two D x D matrices to merge,
    so more than 1000 parts cost more than they save."""


class OwnNetworkSection(Section):
    """Which networks: {kind: mlp}, or {module: FILE, build: NAME} for your own, which a Python file defines by a
    function build(input_shape, n_latent) that returns (encoder, decoder)."""

    kind: Literal["mlp"] | None = None
    """mlp: linear layers with ReLUs, of the widths `hidden`."""

    module: str | None = Field(None, min_length=1)
    """A Python file, relative to the working directory. Its content belongs to the identity of trained points."""

    build: str | None = Field(None, pattern="^[A-Za-z_][A-Za-z0-9_]*$", examples=["build", "make_networks"])
    """The function in the file; build when the key is left out."""


class HierarchySection(Section):
    """A second level of latents above the first: x - z1 - z2."""

    n_top: Count = 1
    """Number of latents of the top level."""

    posterior_variance: Annotated[str, Field(pattern="^learned$")] | Annotated[float, Field(gt=0, le=1)] = "learned"
    """Variance of the posterior of level 1, in units of its prior's given the top level: learned, or a fixed number."""

    @property
    def fixed_variance(self) -> float | None:
        """The posterior variance of level 1 if it is fixed."""
        return None if self.posterior_variance == "learned" else float(self.posterior_variance)


class SweptHierarchySection(HierarchySection):
    """A second level of latents above the first, and the weights that are swept."""

    beta_top: Swept | SweptValues = 1.0
    """Weight of the divergence of the top level; a list sweeps over it as well."""


class NetworkSection(Section):
    """The networks."""

    n_latent: Count
    """Number of latent dimensions."""

    hidden: tuple[Count, ...] = (256, 128)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""

    network: OwnNetworkSection | None = None
    """Which networks: {kind: mlp}, or {module: FILE, build: NAME} for your own, which a Python file defines by a
    function build(input_shape, n_latent) that returns (encoder, decoder)."""

    hierarchy: HierarchySection | None = None
    """A second level of latents above the first. None when the key is left out."""


class LikelihoodSection(Section):
    """The likelihood of the decoder."""

    likelihood: Text = "gaussian"
    """gaussian: squared errors, swept over the decoder variance. bernoulli, poisson, negative-binomial, zinb,
    multinomial, categorical, laplace, student-t, gaussian-variance or module:FILE.py:NAME (your own loss(outputs, x) of
    torch operations, nats for each row): swept over beta."""

    likelihood_options: dict[str, float | str | bool] = {}
    """Options of the likelihood, such as dispersion: 2 (docs/guide/likelihoods.md)."""


class SweepSection(Section):
    """The points of the sweep: one model for each decoder variance, beta and seed."""

    sigma2: SweptValues | None = Field(None, **_unit("squared units of the data"))
    """Decoder variances. Give exactly one of sigma2 and sigma2_ratio. Both are left out with a likelihood other than
    gaussian."""

    sigma2_ratio: SweptValues | None = Field(None, **_unit("units of the largest eigenvalue"))
    """Decoder variances relative to the largest eigenvalue of the data covariance."""

    beta: Swept | SweptValues = 1.0
    """Weight of the KL divergence; a list sweeps over beta as well. With a likelihood other than gaussian give exactly
    one of beta and beta_ratio."""

    beta_ratio: SweptValues | None = Field(None, **_unit("units of the critical weight"))
    """Weights of the KL divergence relative to the predicted critical one, for likelihoods other than gaussian."""

    hysteresis_ratio: SweptValues | None = Field(None, **_unit("units of the largest eigenvalue"))
    """Decoder variances (weights of KL for likelihoods other than gaussian) of a sweep upwards from active models, and
    of freshly trained models to compare with. No such sweep when the key is left out."""

    seeds: list[Seed] = Field([0], min_length=1)
    """Seeds of the initial weights, the order of the data and the noise."""

    refine: bool = False
    """After the sweep, train further points around each transition that it shows."""

    refine_transitions: Count = 4
    """How many transitions are refined, the largest first."""

    bracket: bool = False
    """Train every point a second time, from fresh seeds and by the other schedule, and compare."""

    converged_only: bool = False
    """Fit only the points that are known to have converged."""

    n_buckets: int = Field(8, ge=1, le=1000)
    """The points are trained together in at most this many jobs. Snakemake plans each of them as a rule of its own, so
    more than 1000 take minutes to plan."""


class TrainingSection(Section):
    """The training."""

    samples: Count = 1_000_000
    """Training samples shown to each model."""

    batch: Count = 256
    """Samples per training step."""

    learning_rate: Positive = 0.005
    """Largest learning rate of Adam; it rises at first and then decays to zero along a cosine."""

    schedule: Literal["anneal", "scratch"] = "anneal"
    """anneal: beta * sigma2 rises to its target, so that the model comes from the active side; scratch: it is at its
    target from the start."""

    anneal_from: float = Field(0.4, gt=0, le=1, **_unit("fraction of the target"))
    """The annealed beta * sigma2 starts at this fraction of its target."""

    anneal_fraction: float = Field(0.3, ge=0, le=1, **_unit("fraction of the training"))
    """Fraction of the training during which beta * sigma2 rises."""

    antithetic: bool = True
    """Use each noise draw with both signs."""

    rao_blackwell_group: Count = 64
    """The decoder's targets are averaged over this many samples of a batch (the largest divisor of batch up to it); 1
    turns the averaging off."""

    balanced_order: bool = True
    """Order the samples such that every window of them has nearly the mean and covariance of the full data along its
    leading principal axes."""

    moment_matched_noise: bool = True
    """Give the noise of each batch zero correlation and unit variance (batches of at least 64 samples and 16 per
    latent)."""

    encoder_sees_condition: bool = True
    """Where the data have a condition: whether the encoder sees it, as the decoder does."""

    holdout: float = Field(0.0, ge=0, lt=1, **_unit("fraction of the data"))
    """Fraction of the samples kept out of the training."""


class ExtensionSection(Section):
    """What follows a training that has not converged."""

    extend_unconverged: Count = 1
    """A point that has not converged is trained again with 2, 4, ... times the samples, up to this many times (rounded
    down to a power of two)."""


class DatasetSection(ExtensionSection, TrainingSection, SweepSection, LikelihoodSection, NetworkSection, DataSection):
    """One data set: its data, networks, likelihood, sweep and training."""

    hierarchy: SweptHierarchySection | None = None
    """A second level of latents above the first, for example {n_top: 2, beta_top: 1, posterior_variance: learned}; no
    such level when the key is left out."""


class ClusterSection(Section):
    """What jobs ask a batch system for, in addition to memory, time and CPUs. Changing it trains nothing again."""

    jobs: dict[str, str | int] = {}
    """Resources of all jobs, by the names of Snakemake's executor."""

    training: dict[str, str | int] = {}
    """Resources of training jobs, in addition to those of all jobs or instead of them."""

    least_minutes: float = Field(0.0, ge=0, **_unit("minutes"))
    """Buckets are joined until a training job takes this long by the plan's estimate."""


class ConfigSection(Section):
    """The whole configuration."""

    # Shell commands hold it unquoted.
    results: str = Field("results", pattern="^[A-Za-z0-9_./+=,@-]+$", examples=["results", "/scratch/results"])
    """Folder for all results, as results/NAME/."""

    run: Annotated[list[str], Field(min_length=1)] | None = None
    """Data sets that the target `all` covers; all configured ones when the key is left out."""

    device: str = Field("auto", pattern="^(auto|cpu|cuda|cuda:[0-9]+)$", examples=["auto", "cpu", "cuda", "cuda:0"])
    """Where to train. auto: CUDA where PyTorch finds it."""

    train_threads: Count = 2
    """Threads of one training job."""

    checkpoint_seconds: float = Field(60.0, gt=0, **_unit("seconds"))
    """Time between two checkpoints of a training: the most that a killed job loses."""

    data_memory_mb: Count | None = Field(None, **_unit("MiB"))
    """Memory that the samples may take in a training job. Larger data stay in their file, and this memory holds the
    samples of the next steps. By default half of the machine's memory, and then 1024. No number depends on it."""

    cluster: ClusterSection = ClusterSection()
    """What jobs ask a batch system for."""

    datasets: dict[str, DatasetSection] = Field(min_length=1)
    """The data sets by name, each with its data, networks, sweep and training."""
