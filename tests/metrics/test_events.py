"""CSI, POD, FAR and HSS by hand, against plain loops, and their properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mim3d.errors import UserError
from mim3d.metrics import EVENT_SCORES, ContingencyTable, EventScores

THRESHOLDS = (30.0, 40.0, 50.0)


def loops(samples, threshold, leads):
    """Return the four scores of some lead times, counted pixel by pixel."""
    hits = misses = false_alarms = negatives = 0
    for forecast, truth in samples:
        for lead in leads:
            for said, was in zip(forecast[lead].ravel().tolist(), truth[lead].ravel().tolist(), strict=True):
                if math.isnan(said) or math.isnan(was):
                    continue
                if was >= threshold:
                    hits, misses = (hits + 1, misses) if said >= threshold else (hits, misses + 1)
                elif said >= threshold:
                    false_alarms += 1
                else:
                    negatives += 1
    total = hits + misses + false_alarms + negatives
    scores = dict.fromkeys(EVENT_SCORES, math.nan)
    if hits + misses + false_alarms:
        scores["csi"] = hits / (hits + misses + false_alarms)
    if hits + misses:
        scores["pod"] = hits / (hits + misses)
    if hits + false_alarms:
        scores["far"] = false_alarms / (hits + false_alarms)
    if total:
        # Heidke's score in its other form: right ones less those right by chance.
        by_chance = (
            (hits + misses) * (hits + false_alarms) + (negatives + misses) * (negatives + false_alarms)
        ) / total
        if total - by_chance > 1e-9:
            scores["hss"] = (hits + negatives - by_chance) / (total - by_chance)
    return scores


def frames(count=2):
    """Values about the thresholds, on them as well, and NaN."""
    value = st.sampled_from([0.0, 29.5, 30.0, 35.0, 40.0, 49.0, 50.0, 62.0, math.nan])
    return arrays.arrays(np.float64, (count, 2, 1, 3, 2), elements=value)


@settings(deadline=None, max_examples=60)
@given(frames(), frames())
def test_scores_are_those_of_plain_loops(forecasts, truths):
    table = ContingencyTable.start(2, THRESHOLDS)
    samples = list(zip(forecasts, truths, strict=True))
    for forecast, truth in samples:
        table.accumulate(forecast, truth)
    found, pooled = table.compute(), table.pooled()
    for row, threshold in enumerate(THRESHOLDS):
        for name in EVENT_SCORES:
            expected = [loops(samples, threshold, [lead])[name] for lead in (0, 1)]
            np.testing.assert_allclose(getattr(found, name)[row], expected, atol=1e-12)
            np.testing.assert_allclose(
                getattr(pooled, name)[row], loops(samples, threshold, (0, 1))[name], atol=1e-12
            )


@settings(deadline=None, max_examples=40)
@given(frames(3), frames(3), st.integers(0, 3))
def test_merging_is_scoring_together(forecasts, truths, cut):
    together, parts = EventScores.start(2), [EventScores.start(2) for _ in range(2)]
    for number, (forecast, truth) in enumerate(zip(forecasts, truths, strict=True)):
        together.accumulate(forecast, truth, truth[0])
        parts[number >= cut].accumulate(forecast, truth, truth[0])
    merged = parts[0].merge(parts[1])
    assert merged.num_samples == 3
    for name, values in together.compute().items():
        np.testing.assert_array_equal(merged.compute()[name], values, err_msg=name)
    np.testing.assert_equal(merged.pooled(), together.pooled())


@settings(deadline=None, max_examples=40)
@given(frames(1))
def test_a_perfect_forecast(truths):
    scores = EventScores.start(2)
    scores.accumulate(truths[0], truths[0], truths[0, 1])
    found = scores.compute()
    for threshold in THRESHOLDS:
        known = truths[0][~np.isnan(truths[0])]
        events = [(frame >= threshold).any() for frame in truths[0]]
        for name, value in (("csi", 1), ("pod", 1), ("far", 0)):
            np.testing.assert_array_equal(found[f"{name}_{threshold:g}"], np.where(events, value, np.nan))
        mixed = (known >= threshold).any() and (known < threshold).any()
        assert scores.pooled()[f"hss_{threshold:g}"] == pytest.approx(1 if mixed else np.nan, nan_ok=True)
        # Persistence of the last frame is right about the last frame.
        assert found[f"persistence_csi_{threshold:g}"][1] == pytest.approx(
            1 if events[1] else np.nan, nan_ok=True
        )


def test_scores_by_hand():
    """Two hits, one miss, three false alarms, four correct negatives; at the threshold is an event."""
    truth = np.array([[40.0, 35, 30, 0, 0, 0, 0, 0, 29.99, 0]])
    forecast = np.array([[30.0, 35, 29, 30, 60, 30, 0, 0, 29.99, 0]])
    table = ContingencyTable.start(1, (30,))
    table.accumulate(forecast, truth)
    rates = table.compute()
    np.testing.assert_allclose(rates.csi, [[2 / 6]])
    np.testing.assert_allclose(rates.pod, [[2 / 3]])
    np.testing.assert_allclose(rates.far, [[3 / 5]])
    np.testing.assert_allclose(rates.hss, [[2 * (2 * 4 - 1 * 3) / (3 * 5 + 5 * 7)]])
    assert (table.hits + table.misses + table.false_alarms + table.correct_negatives == 10).all()


def test_what_is_missing_does_not_count():
    truth = np.array([[[[35.0, 0], [45, 10]]]])
    forecast = np.array([[[[35.0, 35], [0, 10]]]])
    missing = np.array([[[[False, True], [True, False]]]])
    by_mask, by_nan = EventScores.start(1), EventScores.start(1)
    by_mask.accumulate(forecast, truth, truth[0], missing)
    by_nan.accumulate(forecast, np.where(missing, np.nan, truth), truth[0])
    np.testing.assert_equal(by_mask.compute(), by_nan.compute())
    assert by_mask.pooled()["csi_30"] == 1
    assert by_mask.pooled()["far_30"] == 0
    assert np.isnan(by_mask.pooled()["csi_40"])
    nothing = EventScores.start(1)
    nothing.accumulate(forecast, np.full_like(truth, np.nan), truth[0])
    assert all(np.isnan(value) for value in nothing.pooled().values())


def test_no_events_no_score_and_lead_times_that_no_sample_reached():
    scores = EventScores.start(3, (20, 30.5))
    scores.accumulate(np.full((2, 1, 2, 2), 25.0), np.zeros((2, 1, 2, 2)), np.zeros((1, 2, 2)))
    found = scores.compute()
    assert set(found) == {
        f"{who}{name}_{threshold}"
        for who in ("", "persistence_")
        for name in EVENT_SCORES
        for threshold in ("20", "30.5")
    }
    np.testing.assert_array_equal(found["csi_20"], [0, 0, np.nan])
    np.testing.assert_array_equal(found["far_20"], [1, 1, np.nan])
    np.testing.assert_array_equal(found["pod_20"], [np.nan] * 3)
    np.testing.assert_array_equal(found["csi_30.5"], [np.nan] * 3)
    np.testing.assert_array_equal(found["persistence_csi_20"], [np.nan] * 3)


def test_large_counts_do_not_overflow():
    table = ContingencyTable.start(1, (30,))
    for name in ("hits", "misses", "false_alarms", "correct_negatives"):
        getattr(table, name)[:] = 10**10
    assert table.compute().hss == 0
    assert table.compute().csi == pytest.approx(1 / 3)


def test_what_does_not_fit_is_refused():
    for thresholds in ((), (40, 30), (30, 30), (math.nan,), ((30,),)):
        with pytest.raises(UserError, match="ascending numbers"):
            ContingencyTable.start(1, thresholds)
    with pytest.raises(UserError, match="at least 1"):
        EventScores.start(0)
    with pytest.raises(UserError, match="different lead times or thresholds"):
        EventScores.start(1).merge(EventScores.start(1, (30,)))
    with pytest.raises(UserError, match="last_input"):
        EventScores.start(1).accumulate(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(3))
    with pytest.raises(UserError, match="missing has shape"):
        EventScores.start(1).accumulate(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(2), np.zeros((1, 3)))
    with pytest.raises(UserError, match="1 to 1 frames"):
        EventScores.start(1).accumulate(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2))
