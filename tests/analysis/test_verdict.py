from __future__ import annotations

from dataclasses import replace

import pytest
from gaussian_sweeps import gaussian_sweep, spectrum_of

from phasevae.analysis.kl_fit.critical_point import CriticalPoint, Predicted, fit_critical_point
from phasevae.analysis.pipeline import analyse
from phasevae.analysis.sweep_table import SweptQuantity
from phasevae.analysis.verdict import numbers_line, verdict


def test_a_sweep_through_the_transition():
    point = fit_critical_point(gaussian_sweep(seed=0), spectrum_of(), 4)
    sentence = verdict(point)
    value, low, high = (f"{number:.4f}" for number in (point.critical_variance, *point.ci95))
    assert 1e-3 < point.ci95[1] - point.ci95[0] < 1e-2, "an interval that leaves four decimals"
    assert sentence.startswith(f"Every latent is collapsed from sigma2 = {value} on")
    assert f"(95 % interval {low} to {high})" in sentence
    assert sentence.endswith("The spectrum of the data predicts 1: within the interval.")


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [
        ([0.9, 1.1], "Every latent is collapsed from x = 1.00 on (95 % interval 0.90 to 1.10). "),
        ([0.9, 1.5], "Every latent is collapsed from x = 1.00 on (95 % interval 0.90 to 1.50). "),
        ([0.9, None], "A latent is active up to x = 0.90 at least (95 % interval above 0.90, best fit x = 1.00). "),
        ([None, 1.07], "Every latent is collapsed from x = 1.070 on (95 % interval below 1.070, best fit x = 1.000). "),
    ],
)
def test_an_interval_that_is_open_on_one_side_says_what_the_other_side_says(ci95, expected):
    point = CriticalPoint(critical_variance=1.0, ci95=ci95, swept=SweptQuantity("x"), n_points=9, n_seeds=1)
    assert verdict(point).startswith(expected)


def test_an_interval_that_is_open_on_one_side_asks_for_points():
    """Four points whose scatter leaves the lower end of the interval open."""
    sweep = gaussian_sweep(None, grid=[0.6, 0.8, 1.0, 1.2]).assign(kl=[0.25, 0.02, 0.01, 0.0])
    fit = analyse(sweep, spectrum_of(), 4)
    assert fit.ci95[0] is None and fit.ci95[1] is not None and not fit.is_open
    advice = "Add points around sigma2 = 1 to 1.2; the spectrum predicts the transition at sigma2 = 1."
    assert verdict(fit).endswith(f"within the interval. {advice}")


@pytest.mark.parametrize("ci95", [[0.9, 1.1], [0.9, None], [None, 1.1]])
def test_without_a_converged_point_nothing_is_collapsed_for_sure(ci95):
    fit = analyse(gaussian_sweep(seed=0).assign(converged=False), spectrum_of(), 4)
    sentence = verdict(replace(fit, critical_variance=1.05, ci95=ci95))
    first, rest = sentence.split(". ", 1)
    assert first.startswith("None of the 16 points has converged, so the result can still change: train longer")
    assert rest.startswith("So far the best fit has the collapse at sigma2 = 1.05")
    assert rest.endswith(". The spectrum of the data predicts 1.")


def test_points_that_have_not_converged_leave_the_result_open_where_the_others_do_not_give_one():
    sweep = gaussian_sweep(seed=0)
    below = analyse(sweep.assign(converged=sweep["sigma2"] > 0.99), spectrum_of(), 4)
    assert 1 < below.convergence.n_unconverged < len(sweep) and below.determined is not None
    sentence, numbers, *more = str(below).splitlines()
    assert sentence.startswith(f"{below.convergence.n_unconverged} of 16 points have not converged (sigma2 = 0.5, ")
    assert "), so the result can still change: train longer, with more samples" in sentence
    assert "So far the best fit has the collapse at sigma2 = " in sentence and "collapsed from" not in sentence
    assert sentence.endswith(". The spectrum of the data predicts 1.")
    assert numbers.startswith("so far: critical variance ") and not any("converged" in line for line in more)
    stored = replace(below, convergence=replace(below.convergence, n_points=0))
    assert verdict(stored).startswith("Every latent is collapsed from "), "a file that does not say whether it is so"
    few = analyse(sweep.assign(converged=sweep["sigma2"] > 0.51), spectrum_of(), 4)
    assert few.convergence.n_unconverged == 1
    assert verdict(few).startswith("Every latent is collapsed from ") and numbers_line(few).startswith("critical ")


def test_a_prediction_outside_the_interval():
    predicted = Predicted(critical_variance=2.0, slope_below=None)
    point = CriticalPoint(critical_variance=1.0, ci95=[0.9, 1.1], predicted=predicted, n_points=9, n_seeds=1)
    assert verdict(point).endswith("The spectrum of the data predicts 2: -50 % off.")


def test_without_a_transition_there_is_a_reason():
    point = CriticalPoint(n_points=3, n_seeds=1, reason="3 values of beta * sigma2, needs 4")
    assert verdict(point) == "This sweep does not show where the latents collapse: 3 values of beta * sigma2, needs 4."


def test_a_sweep_that_ends_before_its_transition_says_where_to_add_points():
    point = fit_critical_point(gaussian_sweep(seed=0).query("sigma2 < 0.9"), spectrum_of(), 4)
    last = gaussian_sweep(seed=0).query("sigma2 < 0.9")["sigma2"].max()
    assert verdict(point).endswith(
        f"nats at every point. Add points with sigma2 above {last:g}; the spectrum predicts the transition at "
        "sigma2 = 1."
    )


def test_print_shows_what_the_command_does():
    fit = analyse(gaussian_sweep(seed=0), spectrum_of(), 4)
    value, low, high = (f"{number:.4f}" for number in (fit.critical_variance, *fit.ci95))
    first, second, *rest = str(replace(fit, warnings=["look out"])).splitlines()
    assert first == verdict(fit)
    assert second == f"critical variance {value} [{low}, {high}], cascade, " + (
        f"order {fit.order.value}" if fit.order.value else "order not determined"
    )
    assert rest == ["warning: look out"]
    undecided = analyse(gaussian_sweep(seed=0).query("sigma2 < 0.9"), spectrum_of(), 4)
    assert str(undecided).splitlines() == [verdict(undecided), *(f"warning: {line}" for line in undecided.warnings)]


def test_the_line_of_numbers_calls_a_form_what_the_figures_call_it():
    fit = analyse(gaussian_sweep(seed=0), spectrum_of(), 4, model="log")
    assert "], one mode (log), order " in numbers_line(fit)


def test_an_open_interval_confirms_no_prediction():
    predicted = Predicted(critical_variance=2.0, slope_below=None)
    point = CriticalPoint(critical_variance=1.0, ci95=[None, None], predicted=predicted, n_points=9, n_seeds=1)
    assert verdict(point) == (
        "The points do not determine the critical variance: its 95 % interval is open on both sides. "
        "The best fit has it at beta * sigma2 = 1."
    )


def test_a_sweep_over_the_kl_weight_speaks_of_it():
    sweep = gaussian_sweep(seed=0)
    over_beta = sweep.assign(beta=sweep["beta"] * sweep["sigma2"], sigma2=1.0, likelihood="poisson")
    point = fit_critical_point(over_beta, spectrum_of(), 4)
    assert point.critical_variance == pytest.approx(fit_critical_point(sweep, spectrum_of(), 4).critical_variance)
    sentence = verdict(point)
    assert sentence.startswith(f"Every latent is collapsed from beta = {point.critical_variance:.4f} on")
    assert "Choose a smaller KL weight to keep" in sentence and "The spectrum of the scores predicts 1" in sentence
    gaussian = verdict(fit_critical_point(over_beta.drop(columns="likelihood"), spectrum_of(), 4))
    assert "decoder variance or KL weight" in gaussian and "The spectrum of the data predicts 1" in gaussian


def test_an_encoder_that_does_not_see_the_condition_has_bounds():
    spectrum = replace(spectrum_of(), unaware_variance=0.8)
    sweep = gaussian_sweep(seed=0).assign(encoder_sees_condition=False)
    point = fit_critical_point(sweep, spectrum, 4)
    assert point.predicted == Predicted(1.0, None, 0.8, is_upper_bound=True)
    assert verdict(point).endswith("predicts 0.8 for a linear encoder, which others can exceed, up to 1.")
    without = verdict(fit_critical_point(sweep, spectrum_of(), 4))
    assert without.endswith("The encoder does not see the condition: the spectrum of the data gives the upper bound 1.")
    aware = fit_critical_point(sweep.assign(encoder_sees_condition=True), spectrum, 4)
    assert verdict(aware).endswith("The spectrum of the data predicts 1: within the interval.")


def noisy_sweep():
    """Four points whose scatter leaves both ends of the interval open."""
    return gaussian_sweep(None, grid=[0.6, 0.8, 1.0, 1.2]).assign(kl=[0.423, 0.0, 0.034, 0.0])


def test_a_fit_whose_interval_is_open_on_both_sides_is_no_result():
    fit = analyse(noisy_sweep(), spectrum_of(), 4)
    advice = "add points around sigma2 = 1 to 1.2; the spectrum predicts the transition at sigma2 = 1"
    warning = "the points do not determine the critical variance: its 95 % interval is open on both sides"
    assert fit.critical_variance is not None and fit.ci95 == [None, None] and fit.is_open
    assert fit.advice == advice and f"{warning}; {advice}" in fit.warnings
    assert verdict(fit) == (f"T{warning[1:]}; {advice}. The best fit has it at sigma2 = {fit.critical_variance:.4g}.")
    assert str(fit).count("open on both sides") == 1 and "Every latent is collapsed from" not in str(fit)
    assert str(fit) == verdict(fit) and numbers_line(fit) == f"no critical variance: {warning}"
    assert fit.exponents.reason == warning
    known = analyse(gaussian_sweep(seed=0), spectrum_of(), 4)
    assert known.determined == known.critical_variance and known.advice is None
    assert not any("open" in line for line in known.warnings)


def test_a_fixed_weight_is_divided_out_wherever_the_decoder_variance_is_named():
    """With beta = 2 the transition at beta * sigma2 = 1 lies at sigma2 = 0.5."""
    table = gaussian_sweep(None, grid=[0.6, 0.8, 1.0, 1.2], beta=2.0).assign(kl=[0.423, 0.0, 0.034, 0.0])
    fit = analyse(table.assign(converged=[True, True, False, True]), spectrum_of(), 4)
    assert "add points around sigma2 = 0.5 to 0.6; the spectrum predicts the transition at sigma2 = 0.5" in str(fit)
    assert f"The best fit has it at sigma2 = {fit.critical_variance / 2:.4g}." in str(fit)
    assert "1 of 4 points has not converged (sigma2 = 0.5), so the result can still change: " in str(fit)
    known = analyse(gaussian_sweep(seed=0, beta=2.0), spectrum_of(), 4)
    assert f"critical variance {known.critical_variance / 2:.4f} [" in numbers_line(known)
    assert "The spectrum of the data predicts 0.5: within the interval." in verdict(known)


def test_a_fit_of_an_earlier_version_is_in_the_abscissa():
    fit = replace(analyse(gaussian_sweep(seed=0, beta=2.0), spectrum_of(), 4), swept=None)
    assert verdict(fit).startswith(f"Every latent is collapsed from beta * sigma2 = {fit.critical_variance:.4f} on")
    assert numbers_line(fit).startswith(f"critical variance {fit.critical_variance:.4f} [")


def test_an_open_fit_is_in_the_quantity_that_the_user_varied():
    fit = analyse(noisy_sweep(), spectrum_of(), 4, swept=SweptQuantity("weight", 2.0))
    assert "; add points around weight = 0.5 to 0.6; the spectrum predicts the transition at weight = 0.5" in str(fit)
    assert f"The best fit has it at weight = {fit.critical_variance / 2:.4g}." in str(fit)
