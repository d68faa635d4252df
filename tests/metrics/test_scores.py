"""Every score against numbers worked out by hand, and merging against scoring all at once."""

import numpy as np
import pytest

from mim3d.errors import UserError
from mim3d.metrics import (
    VRMSE,
    AffectedOverlap,
    MeanAbsoluteError,
    MeanSquaredError,
    MidPlaneLogDensityError,
    RecallCurve,
    SummedAbsoluteError,
    SummedSquaredError,
    VolumeLogDensityError,
    log_number_density,
    number_density,
    site_voxel,
)
from mim3d.supernova.units import MASS_DENSITY_PER_HYDROGEN_NUMBER_DENSITY as PER_CM3

RANDOM = np.random.default_rng(3)
SCORES = [
    MeanSquaredError,
    MeanAbsoluteError,
    SummedSquaredError,
    SummedAbsoluteError,
    VRMSE,
    VolumeLogDensityError,
    MidPlaneLogDensityError,
]


def test_squared_and_absolute_errors():
    truth = np.array([[[0.0, 1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    forecast = np.array([[[1.0, 1.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 5.0]]])
    expected = {
        MeanSquaredError: [5 / 4, 16 / 4],
        MeanAbsoluteError: [3 / 4, 4 / 4],
        SummedSquaredError: [5, 16],
        SummedAbsoluteError: [3, 4],
    }
    for kind, values in expected.items():
        score = kind.start(2)
        score.accumulate(forecast, truth)
        np.testing.assert_allclose(score.compute(), values)


def test_vrmse_is_one_for_the_mean_and_uses_the_floor():
    truth = np.array([[0.0, 2.0, 4.0, 6.0]])
    score = VRMSE.start(1)
    score.accumulate(np.full((1, 4), 3.0), truth)
    np.testing.assert_allclose(score.compute(), 1, rtol=1e-7)
    flat = VRMSE.start(1)
    flat.accumulate(np.full((1, 4), 1.1), np.ones((1, 4)))
    np.testing.assert_allclose(flat.compute(), 0.1 / np.sqrt(1e-7))
    half = VRMSE.start(1)
    half.accumulate(truth + 1, truth)
    np.testing.assert_allclose(half.compute(), np.sqrt(1 / (5 + 1e-7)))


def test_number_density_and_its_clipped_logarithm():
    assert pytest.approx(1.4 * 0.024714, rel=2e-3) == PER_CM3
    np.testing.assert_allclose(number_density(PER_CM3 * np.array([44.5, 1.0])), [44.5, 1.0])
    clipped = log_number_density(PER_CM3 * np.array([1e-3, 10.0, 1e4]))
    np.testing.assert_allclose(clipped, [0, 1, np.log10(150)])


def test_mid_planes_go_through_the_site_and_weigh_the_same():
    truth = np.full((1, 4, 6, 8), 10 * PER_CM3)
    forecast = truth.copy()
    forecast[0, 1, :, :] *= 10  # the plane x = 1, and one line of each of the two other mid-planes
    score = MidPlaneLogDensityError.start(1)
    score.accumulate(forecast, truth, site=(1, 2, 3))
    np.testing.assert_allclose(score.compute(), (1 + 1 / 4 + 1 / 4) / 3)
    elsewhere = MidPlaneLogDensityError.start(1)
    elsewhere.accumulate(forecast, truth)
    np.testing.assert_allclose(elsewhere.compute(), (0 + 1 / 4 + 1 / 4) / 3)
    volume = VolumeLogDensityError.start(1)
    volume.accumulate(forecast, truth)
    np.testing.assert_allclose(volume.compute(), 1 / 4)


def test_differences_outside_the_clip_do_not_count():
    truth, forecast = np.full((1, 2, 2, 2), 0.5 * PER_CM3), np.full((1, 2, 2, 2), 0.001 * PER_CM3)
    score = MidPlaneLogDensityError.start(1)
    score.accumulate(forecast, truth)
    np.testing.assert_allclose(score.compute(), 0)


def test_site_voxel():
    assert site_voxel((30.0, 30.0, 30.0), (0, 0, 0), (60, 60, 60), (32, 32, 32)) == (16, 16, 16)
    assert site_voxel((-30.0, 30.0), (-30.0, -30.0), (60, 60), (8, 8)) == (0, 7)
    with pytest.raises(UserError, match="outside"):
        site_voxel((70.0,), (0.0,), (60.0,), (8,))


def test_overlap_by_hand():
    truth = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    forecast = np.array([[0, 1, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]])
    score = AffectedOverlap.start(2)
    score.accumulate(forecast, truth)
    overlap = score.compute()
    np.testing.assert_allclose(overlap.iou, [2 / 4, 0])
    np.testing.assert_allclose(overlap.recall, [2 / 3, np.nan])
    np.testing.assert_allclose(overlap.precision, [2 / 3, 0])


def test_overlap_leaves_out_what_is_not_known():
    score = AffectedOverlap.start(2)
    score.accumulate(np.ones((2, 4)), np.array([[1, 0, np.nan, np.nan], [np.nan] * 4]))
    np.testing.assert_allclose(score.compute().iou, [1 / 2, np.nan])


@pytest.mark.parametrize("kind", SCORES)
def test_voxels_that_are_nan_are_left_out(kind):
    truth = RANDOM.uniform(0.1, 2, (2, 4, 4, 4))
    forecast = RANDOM.uniform(0.1, 2, (2, 4, 4, 4))
    forecast[0, 2, 2, 2] = np.nan
    truth[1] = np.nan
    score = kind.start(3)
    score.accumulate(forecast, truth)
    values = score.compute()
    assert np.isfinite(values[0])
    assert np.isnan(values[1])
    assert np.isnan(values[2])


def test_nan_changes_a_mean_as_expected():
    score = MeanAbsoluteError.start(1)
    score.accumulate(np.array([[1.0, 2.0, np.nan]]), np.array([[0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(score.compute(), 1.5)


@pytest.mark.parametrize("kind", [*SCORES, AffectedOverlap])
def test_merging_equals_scoring_all_at_once(kind):
    samples = [
        (RANDOM.uniform(0.01, 3, (frames, 4, 4, 4)), RANDOM.uniform(0.01, 3, (frames, 4, 4, 4)))
        for frames in (3, 2, 3, 1)
    ]
    if kind is AffectedOverlap:
        samples = [(np.round(forecast / 3), np.round(truth / 3)) for forecast, truth in samples]
    together, first, second = kind.start(3), kind.start(3), kind.start(3)
    for i, sample in enumerate(samples):
        together.accumulate(*sample)
        (first if i < 2 else second).accumulate(*sample)
    np.testing.assert_allclose(first.merge(second).compute(), together.compute(), rtol=1e-12)
    assert not np.isnan(together.compute()).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        MeanSquaredError.start(0)
    with pytest.raises(UserError, match="shape"):
        MeanSquaredError.start(2).accumulate(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(UserError, match="1 to 2 frames"):
        MeanSquaredError.start(2).accumulate(np.zeros((3, 3)), np.zeros((3, 3)))
    with pytest.raises(UserError, match="cannot merge"):
        MeanSquaredError.start(2).merge(MeanSquaredError.start(3))
    with pytest.raises(UserError, match="cannot merge"):
        MeanSquaredError.start(2).merge(VRMSE.start(2))  # pyright: ignore
    with pytest.raises(UserError, match="not a voxel"):
        MidPlaneLogDensityError.start(1).accumulate(np.ones((1, 2, 2)), np.ones((1, 2, 2)), site=(5, 0))


def test_missed_mass_weighs_by_mass():
    truth, forecast = np.array([[1.0, 1.0, 0.0]]), np.array([[1.0, 0.0, 1.0]])
    score = AffectedOverlap.start(1)
    score.accumulate(forecast, truth, np.array([1.0, 9.0, 5.0]))
    np.testing.assert_allclose(score.compute().missed_mass, 0.9)
    evenly = AffectedOverlap.start(1)
    evenly.accumulate(forecast, truth)
    np.testing.assert_allclose(evenly.compute().missed_mass, 0.5)


def test_the_threshold_for_a_recall_and_what_it_costs():
    certainty = np.concatenate([np.linspace(0.501, 0.999, 100), np.linspace(0.001, 0.599, 100)])[None]
    truth = np.concatenate([np.ones(100), np.zeros(100)])[None]
    curve = RecallCurve.start(2)
    curve.accumulate(certainty, truth)
    at_99 = curve.at_recall(0.99)
    assert at_99.threshold[0] == pytest.approx(0.505)
    assert at_99.precision[0] == pytest.approx(99 / 115, abs=0.01)
    assert np.isnan(at_99.threshold[1])
    assert np.isnan(at_99.precision[1])
    half = curve.at_recall(0.5)
    assert half.threshold[0] == pytest.approx(0.75, abs=0.006)
    assert half.precision[0] == 1
    merged = curve.merge(curve)
    assert merged.at_recall(0.99).precision[0] == at_99.precision[0]
    assert merged.overall_at_recall(0.99).threshold == at_99.threshold[0]


def test_the_threshold_of_the_best_overlap():
    curve = RecallCurve.start(2)
    assert np.isnan(curve.best_overlap())
    generator = np.random.default_rng(0)
    truth = generator.random((2, 40, 40)) < 0.2
    certainty = np.where(truth, generator.beta(5, 2, truth.shape), generator.beta(2, 5, truth.shape))
    curve.accumulate(certainty, truth.astype(float))

    def overlap(threshold: float) -> float:
        named = certainty >= threshold
        return (named & truth).sum() / (named | truth).sum()

    best = max(np.arange(200) / 200, key=overlap)
    assert curve.best_overlap() == pytest.approx(best)
    assert 0.4 < best < 0.8
    lowest = min(t for t in np.arange(200) / 200 if overlap(t) >= overlap(best) - 0.02)
    assert curve.best_overlap(0.02) == pytest.approx(lowest)
    assert lowest < best


def test_gas_that_no_threshold_finds_has_none():
    curve = RecallCurve.start(1)
    curve.accumulate(np.zeros((1, 10)), np.ones((1, 10)))
    assert np.isnan(curve.at_recall(0.99).threshold[0])
