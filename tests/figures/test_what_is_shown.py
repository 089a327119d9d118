"""What figures show and leave out: lines without support, integer counts, the errors of a log likelihood."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from figure_inputs import EIGENVALUES, labels, make_inputs
from gaussian_sweeps import spectrum_of

from phasevae.analysis.records import OPEN
from phasevae.analysis.slowing import SlowingExponent
from phasevae.figures.labels import plain_log_ticks
from phasevae.figures.marks import figure_of
from phasevae.figures.registry import render_figure
from phasevae.measurement import measure
from phasevae.sweeps.resources import LIKELIHOOD_ROWS
from phasevae.theory.ppca import ppca_kl_per_dim, ppca_latent_variance


def drawn_lines(axes):
    """The lines of a panel that show something."""
    return [line for line in axes.lines if len(line.get_xdata()) and line.get_linestyle() != "None"]


def with_exponent(inputs, ci95):
    """The inputs with another interval of the exponent of slowing down."""
    exponent = SlowingExponent(float(np.mean(ci95)), ci95, expected=1.0, below=0.1, above=0.1)
    slowing = replace(inputs["fit"].slowing, exponent=exponent)
    return inputs | {"fit": replace(inputs["fit"], slowing=slowing)}


def latent_inputs(eigenvalues, n):
    """The table of latents that follow theory, and their spectrum."""
    x = np.linspace(0.1, 1.1, 11)
    rows = [
        {"sigma2": value, "beta": 1.0, "seed": 0, "latent": j, "kl": kl, "latent_variance": variance}
        for value in x
        for j, (kl, variance) in enumerate(
            zip(ppca_kl_per_dim(eigenvalues, value, n), ppca_latent_variance(eigenvalues, value, n), strict=True)
        )
    ]
    return {"dimensions": pd.DataFrame(rows), "spectrum": spectrum_of(eigenvalues)}


def test_an_exponent_whose_interval_holds_zero_is_not_drawn():
    inputs = make_inputs()
    assert inputs["fit"].slowing.exponent is not None
    figure = render_figure("slowing", **with_exponent(inputs, [0.5, 1.5]))
    assert len(drawn_lines(figure.axes[0])) == 2 and figure.axes[0].get_title() == ""
    assert any("[0.50, 1.50]" in text for text in labels(figure))
    figure = render_figure("slowing", **with_exponent(inputs, [-0.3, 0.5]))
    assert drawn_lines(figure.axes[0]) == [] and not any("fit" in text for text in labels(figure))
    title = figure.axes[0].title
    assert title.get_text() == "no power law: exponent = 0.10 [\N{MINUS SIGN}0.30, 0.50]"
    assert title.get_window_extent().x1 <= figure.bbox.x1


def test_every_entry_of_the_legend_of_exponents_is_drawn():
    inputs = make_inputs()
    assert inputs["fit"].exponents.reason
    figure = render_figure("exponents", **inputs)
    assert drawn_lines(figure.axes[0]) == [] and not any("fit" in text for text in labels(figure))


def test_active_dimensions_are_counted_in_whole_numbers():
    inputs = make_inputs() | latent_inputs(np.linspace(1.0, 0.3, 8), 8)
    ticks = render_figure("cascade", **inputs).axes[0].get_yticks()
    assert len(ticks) > 2 and np.array_equal(ticks, np.round(ticks))


def test_the_cascade_shows_the_critical_point_of_the_whole_kl_too():
    inputs = make_inputs()
    figure = render_figure("cascade", **inputs)
    shown = {container.get_label(): container[0] for container in figure.axes[1].containers}
    (place,) = shown["from the total KL (figure kl)"].get_ydata()
    assert place == pytest.approx(100 * inputs["fit"].critical_variance / EIGENVALUES[0] - 100)
    assert "from the KL of one mode" in labels(figure)


@pytest.mark.parametrize("name", ["kl", "kl_derivatives", "exponents"])
def test_a_critical_point_that_is_open_on_both_sides_is_not_drawn(name):
    inputs = make_inputs()
    known = render_figure(name, **inputs)
    fit = replace(inputs["fit"], ci95=[None, None])
    figure = render_figure(name, **inputs | {"fit": fit})
    assert figure.axes[0].get_title() == f"no fit: {OPEN}" != known.axes[0].get_title()
    assert not any("fit" in text or "95 %" in text for text in labels(figure))
    assert name == "exponents" or any("fit: " in text for text in labels(known))


def test_a_bracketing_sweep_that_is_open_on_both_sides_has_no_line():
    inputs = make_inputs()
    summary = inputs["bracketing_summary"]
    opened = replace(summary, second=replace(summary.second, ci95=[None, None]))
    figure = render_figure("bracketing", **inputs | {"bracketing_summary": opened})
    assert [sum("= " in text for text in labels(f)) for f in (render_figure("bracketing", **inputs), figure)] == [2, 1]


def test_a_threshold_that_is_open_on_a_side_is_left_out_of_the_cascade():
    inputs = make_inputs()
    first, *others = inputs["fit"].cascade.modes
    modes = [replace(first, ci95=[None, first.ci95[1]]), *others]
    fit = replace(inputs["fit"], cascade=replace(inputs["fit"].cascade, modes=modes))
    shown = [render_figure("cascade", **inputs | {"fit": each}).axes[1].containers[0] for each in (inputs["fit"], fit)]
    assert [list(container[0].get_xdata()) for container in shown] == [EIGENVALUES[:3], EIGENVALUES[1:3]]


def test_the_legend_names_every_latent_in_order_or_a_bar_does():
    few = render_figure("latent_variance", **latent_inputs([1.0, 0.8, 0.6], 3))
    assert labels(few)[:3] == ["latent 1", "latent 2", "latent 3"] and len(few.axes) == 1
    many = render_figure("latent_variance", **latent_inputs(np.linspace(1.0, 0.2, 8), 8))
    assert not any(text.startswith("latent") for text in labels(many))
    bar = many.axes[1]
    assert bar.get_ylabel() == "latent" and list(bar.get_yticks()) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_log_likelihood_of_a_part_of_the_samples_has_its_error():
    assert measure.LIKELIHOOD_ROWS == LIKELIHOOD_ROWS
    inputs = make_inputs()
    sweep = inputs["sweep"].assign(log_likelihood_standard_error=0.03)
    all_rows = replace(inputs["spectrum"], n_samples=LIKELIHOOD_ROWS)
    figure = render_figure("elbo", **inputs | {"sweep": sweep})
    assert f"log likelihood of {LIKELIHOOD_ROWS}\nsamples, standard error" in labels(figure)
    likelihoods = [each for each in figure.axes[0].containers if each[0].get_marker() == "D"]
    lengths = [np.diff(segment[:, 1]) for each in likelihoods for segment in each[2][0].get_segments()]
    assert np.ravel(lengths) == pytest.approx(0.06)
    figure = render_figure("elbo", **inputs | {"sweep": sweep, "spectrum": all_rows})
    assert "log likelihood" in labels(figure)
    assert all(not each.has_yerr for each in figure.axes[0].containers)


@pytest.mark.parametrize(("low", "high"), [(0.21, 0.29), (0.21, 0.45), (0.06, 0.4), (0.003, 0.7), (9.5, 11)])
def test_a_logarithmic_axis_has_plain_labels(low, high):
    axes = figure_of(2.6).subplots()
    axes.set(yscale="log", ylim=(low, high))
    plain_log_ticks(axes.yaxis)
    axes.figure.draw_without_rendering()
    shown = {t.get_text() for t in axes.get_yticklabels() if low <= t.get_position()[1] <= high} - {""}
    assert 2 <= len(shown) <= 8 and all(np.isfinite(float(text)) for text in shown)
