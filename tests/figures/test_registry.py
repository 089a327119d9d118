import functools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from figure_inputs import BOUND, EIGENVALUES, N_LATENT, bracketed, histories_of, labels, make_inputs
from hierarchy_sweeps import hierarchy_sweep

from phasevae.analysis.kl_fit.critical_point import fit_critical_point
from phasevae.analysis.pipeline import analyse
from phasevae.analysis.sweep_table import seed_means
from phasevae.artifacts.figures import write_figure
from phasevae.errors import InputError
from phasevae.figures import marks
from phasevae.figures.registry import FIGURES, render_figure
from phasevae.spectrum.spectrum import LikelihoodRecord
from phasevae.theory.hierarchical import Hierarchy, critical_beta, critical_beta_top
from phasevae.theory.linear_vae import linear_vae_elbo
from phasevae.theory.ppca import ppca_elbo


@pytest.fixture(scope="module")
def shared():
    return make_inputs()


@pytest.fixture
def inputs(shared):
    return shared


def inputs_of(name, shared):
    """The inputs of a figure; that of two levels needs a sweep of them."""
    if name == "hierarchy":
        return shared | {"sweep": hierarchy_sweep(EIGENVALUES, [0.2, 0.8, 4.0, 12.0], [0.1, 0.3, 0.7, 1.5, 4.0], 0.2)}
    return shared


@pytest.fixture(scope="module")
def drawn(shared):
    """Draws a figure of the registry, once: function of its name."""
    return functools.cache(lambda name: render_figure(name, **inputs_of(name, shared)))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_complete_and_legible(name, drawn, tmp_path):
    figure = drawn(name)
    pdf, png = write_figure(tmp_path / "a", figure)
    assert pdf.read_bytes().startswith(b"%PDF") and b"/Type3" not in pdf.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert figure.get_size_inches()[0] == 3.4
    for axes in figure.axes:
        for text in [axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]:
            assert text.get_fontsize() >= 7


@pytest.mark.parametrize("name", ["landscape", "kl", "hierarchy"])
def test_figures_are_the_same_every_time(name, shared, tmp_path):
    inputs = inputs_of(name, shared)
    first, second = (write_figure(tmp_path / stem, render_figure(name, **inputs)) for stem in ("a", "b"))
    for path, repeated in zip(first, second, strict=True):
        assert path.read_bytes() == repeated.read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_legends_lie_on_the_page_and_off_the_data(name, drawn):
    figure = drawn(name)
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= figure.bbox.x0 and legend.x1 <= figure.bbox.x1
    assert all(legend.y0 >= axes.get_window_extent().y1 for axes in figure.axes)


@pytest.mark.parametrize("name", FIGURES)
def test_missing_inputs_are_named(name, shared):
    inputs = inputs_of(name, shared)
    for key in FIGURES[name].needs:
        with pytest.raises(InputError, match=f"figure '{name}': input '{key}' is missing"):
            render_figure(name, **{**inputs, key: None})


def test_unknown_names_and_columns(inputs):
    with pytest.raises(InputError, match="must be one of landscape, elbo, latent_variance"):
        render_figure("fig1")
    with pytest.raises(InputError, match="sweep has no 'elbo'"):
        render_figure("elbo", **{**inputs, "sweep": inputs["sweep"].drop(columns="elbo")})


def test_points_below_the_linear_bound_are_hollow(inputs):
    axes = render_figure("kl", **inputs).axes[0]
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    hollow = [line for line in drawn if line.get_markerfacecolor() == "white"]
    assert 0 < BOUND < 1
    assert all(max(line.get_xdata()) < BOUND for line in hollow) and len(hollow) == 1
    assert "linear bound" in labels(axes.figure)


def test_non_gaussian_data_have_no_likelihood_line_and_no_bound():
    gaussian, skewed = (render_figure("elbo", **make_inputs(skewness=value)) for value in (0.0, 0.6))
    assert "data log likelihood" in labels(gaussian) and "linear bound" in labels(gaussian)
    assert not {"data log likelihood", "linear bound", "theory (pPCA)"} & set(labels(skewed))


def over_the_kl_weight():
    """The inputs of a likelihood other than the Gaussian one: the same curve over beta at sigma2 = 1."""
    inputs = make_inputs()
    likelihood = LikelihoodRecord("poisson", {}, 3.0)
    inputs["spectrum"] = replace(inputs["spectrum"], likelihood=likelihood, variance_proxy=None)
    for name in ("sweep", "dimensions", "hysteresis"):
        inputs[name] = inputs[name].assign(beta=inputs[name]["sigma2"], sigma2=1.0)
    inputs["fit"] = analyse(
        inputs["sweep"], inputs["spectrum"], N_LATENT, inputs["dimensions"], histories_of(inputs["sweep"])
    )
    return inputs | bracketed(inputs["sweep"], inputs["spectrum"])


def test_figures_of_a_sweep_over_the_kl_weight_say_so():
    inputs = over_the_kl_weight()
    for name in ("elbo", "latent_variance", "kl", "kl_derivatives", "cascade", "hysteresis", "bracketing"):
        figure = render_figure(name, **inputs)
        assert r"KL weight $\beta$" in [axes.get_xlabel() for axes in figure.axes], name
        assert not any("sigma" in text or "data$" in text for text in labels(figure)), name
    assert any(r"fitted $\beta_c" in text for text in labels(render_figure("kl", **inputs)))
    assert r"\beta / \beta_c" in render_figure("exponents", **inputs).axes[0].get_xlabel()
    assert any("critical KL weight" in text for text in labels(render_figure("spectrum", **inputs)))
    elbo = render_figure("elbo", **inputs).axes[0]
    collapsed = next(line for line in elbo.lines if line.get_label() == "collapsed")
    assert set(collapsed.get_ydata()) == {-3.0}


def test_latents_are_ranked_by_information(inputs):
    axes = render_figure("latent_variance", **inputs).axes[0]
    leading = [line for line in axes.lines if line.get_marker() == "o" and line.get_color() == marks.BLUE]
    for line in leading:
        assert line.get_ydata() == pytest.approx(np.minimum(1, np.asarray(line.get_xdata()) / EIGENVALUES[0]))
    assert sum(len(line.get_xdata()) for line in leading) == 12


def test_elbo_theory_meets_the_points_in_a_beta_sweep():
    axes = render_figure("elbo", **make_inputs(beta=2.5)).axes[0]
    curves = {line.get_label(): line for line in axes.lines}
    line = curves["theory (pPCA)"]
    measured = [line for line in axes.lines if line.get_marker() == "o" and line.get_color() == marks.BLUE]
    x, y = (
        np.concatenate([getattr(mark, get)() for mark in measured]).astype(float) for get in ("get_xdata", "get_ydata")
    )
    exact = x >= BOUND
    assert np.interp(x[exact], *line.get_data()) == pytest.approx(y[exact], abs=1e-3)
    assert axes.figure.axes[1].get_xlabel().startswith(r"$\beta\sigma^2$")


def test_each_beta_has_its_own_elbo_curve():
    first, second = make_inputs(beta=1.0), make_inputs(beta=2.5)
    both = {**first, "sweep": pd.concat([first["sweep"], second["sweep"]], ignore_index=True)}
    axes = render_figure("elbo", **both).axes[0]
    curves = [line for line in axes.lines if line.get_label() == "theory (pPCA)"]
    assert len(curves) == 2
    for curve, beta in zip(curves, (1.0, 2.5), strict=True):
        x, y = curve.get_data()
        expected = [float(ppca_elbo(EIGENVALUES, value / beta, N_LATENT, beta)) for value in x]
        assert y == pytest.approx(expected)
    assert {r"ELBO, $\beta = 1$", r"ELBO, $\beta = 2.5$"} <= set(labels(axes.figure))


def test_the_residual_edge_meets_the_marginal_line_where_latents_die(inputs):
    figure = render_figure("residual", **inputs)
    curves = {line.get_label(): line for line in figure.axes[0].lines}
    x, edge = (
        np.concatenate([curves[name].get_data()[i] for name in ("linear bound", "theory (pPCA)")]) for i in (0, 1)
    )
    for threshold in EIGENVALUES[:N_LATENT]:
        near = np.abs(x / threshold - 1) < 1e-6
        assert edge[near] == pytest.approx(x[near], rel=1e-4)
    assert {"0 active", "1 active", "2 active", "3 active"} <= set(labels(figure))
    assert {"end of a branch (95 %)", "threshold by KL"} <= set(labels(figure))
    with pytest.raises(InputError, match="train the points again"):
        render_figure("residual", **inputs | {"sweep": inputs["sweep"].drop(columns="residual_edge")})
    without = inputs["sweep"].assign(residual_edge=np.nan, residual_margin=np.nan)
    assert "not defined for this loss" in render_figure("residual", **inputs | {"sweep": without}).axes[0].get_title()


def test_sweeps_at_two_betas_are_one_curve_of_kl():
    first, second = make_inputs(beta=1.0), make_inputs(beta=2.5)
    both = {**first, "sweep": pd.concat([first["sweep"], second["sweep"]], ignore_index=True)}
    axes = render_figure("beta_equivalence", **both).axes[0]
    drawn = [line for line in axes.lines if line.get_label().startswith("over ")]
    assert len(drawn) == 2
    assert drawn[0].get_xdata() == pytest.approx(drawn[1].get_xdata())
    assert drawn[0].get_ydata() == pytest.approx(drawn[1].get_ydata())


def test_seeds_are_drawn_as_mean_and_range():
    means = seed_means(make_inputs(seeds=3)["sweep"], ["kl"])["kl"]
    assert (means["count"] == 3).all()
    assert np.asarray(means["max"] - means["mean"]) == pytest.approx(0.001)
    assert np.asarray(means["mean"] - means["min"]) == pytest.approx(0.001)


def test_the_slope_jumps_at_the_critical_variance(inputs):
    axes = render_figure("kl_derivatives", **inputs).axes[0]
    curve = next(line for line in axes.lines if line.get_label() == "theory (pPCA)")
    x, y = curve.get_data()
    assert y[x < 1][-1] == pytest.approx(-0.5) and y[x >= 1][0] == 0
    assert x[x < 1][-1] == pytest.approx(1.0)


def test_a_sweep_without_fit_is_drawn_with_its_reason(inputs):
    sweep = inputs["sweep"][inputs["sweep"]["sigma2"] < 0.9]
    fit = fit_critical_point(sweep, inputs["spectrum"], N_LATENT)
    for name in ("kl", "kl_derivatives"):
        figure = render_figure(name, **{**inputs, "sweep": sweep, "fit": fit})
        assert "none collapsed" in figure.axes[0].get_title()


def test_disagreeing_points_are_shaded_to_halfway_their_neighbours(inputs):
    for axes in render_figure("bracketing", **inputs).axes:
        bands = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
        assert [(band.x0, band.x1) for band in bands] == [
            pytest.approx(ends) for ends in ((0.895, 0.945), (0.945, 0.995))
        ]


def test_the_two_sweeps_are_named_with_their_critical_variances(inputs):
    shown, summary = labels(render_figure("bracketing", **inputs)), inputs["bracketing_summary"]
    first, second = summary.first.critical_variance, summary.second.critical_variance
    assert second < first
    assert rf"annealed: $\sigma_c^2 = {first:.4g}$" in shown and rf"from scratch: $\sigma_c^2 = {second:.4g}$" in shown
    first, second = (replace(side, schedule=None, critical_variance=None) for side in (summary.first, summary.second))
    unnamed = replace(summary, first=first, second=second)
    drawn = render_figure("bracketing", **inputs | {"bracketing_summary": unnamed})
    assert {"first sweep", "second sweep"} <= set(labels(drawn))


def test_landscape_marks_lie_on_the_extrema():
    left, right = render_figure("landscape").axes[:2]
    u, v = next(line for line in left.lines if line.get_marker() == "*").get_data()
    step = 1e-4
    peak = linear_vae_elbo(u, v, 0.4)
    for du, dv in ((step, 0), (-step, 0), (0, step), (0, -step)):
        assert np.all(linear_vae_elbo(u + du, v + dv, 0.4) < peak)
    assert [line.get_marker() for line in right.lines] == ["o"]


@pytest.mark.parametrize("variance", [0.2, None])
def test_the_phase_diagram_shows_each_phase_on_its_side_of_the_boundaries(variance, shared):
    sweep = hierarchy_sweep(EIGENVALUES, [0.2, 0.8, 4.0, 12.0], [0.1, 0.3, 0.7, 1.5, 4.5, 14.0], variance)
    figure = render_figure("hierarchy", sweep=sweep, spectrum=shared["spectrum"])
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    both = drawn["both levels active"].get_xydata()
    unit = Hierarchy(1, 1, 1.0, posterior_variance=variance)
    assert (both[:, 1] < critical_beta_top(unit, 1.0, both[:, 0])).all()
    neither = drawn["both collapsed"].get_xydata()
    assert (neither[:, 1] > critical_beta_top(unit, 1.0, neither[:, 0])).all()
    assert (neither[:, 0] > critical_beta(unit, 1.0, neither[:, 1])).all()
    assert variance is None or "top level active" in drawn


def test_a_phase_diagram_needs_a_hierarchy(shared):
    with pytest.raises(InputError, match=r"^figure 'hierarchy': sweep has no 'beta_top', must be that of a two-level"):
        render_figure("hierarchy", sweep=shared["sweep"], spectrum=shared["spectrum"])


def test_other_figures_of_a_hierarchy_show_level_1_at_the_dearest_top_level(shared):
    sweep = shared["sweep"]
    parts = [sweep.assign(beta_top=beta_top, kl=sweep["kl"] + 9 / beta_top) for beta_top in (1.0, 2.0)]
    tables = pd.concat(parts), parts[1].reset_index(drop=True)
    drawn = [render_figure("kl", **shared | {"sweep": table}).axes for table in tables]
    lines = [[line.get_xydata() for axes in figure for line in axes.lines] for figure in drawn]
    assert all(np.array_equal(a, b) for a, b in zip(*lines, strict=True))
