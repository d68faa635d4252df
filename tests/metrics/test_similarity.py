"""PSNR and SSIM by hand and against scikit-image; all scores of video together."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mim3d.errors import UserError
from mim3d.metrics import PeakSignalToNoiseRatio, StructuralSimilarity, VideoScores

RANDOM = np.random.default_rng(7)


def smooth(*shape):
    """Frames with structure, and others near them."""
    truth = np.cumsum(np.cumsum(RANDOM.normal(size=shape), -1), -2)
    truth = (truth - truth.min()) / np.ptp(truth)
    return truth, np.clip(truth + 0.1 * RANDOM.normal(size=shape), 0, 1)


@pytest.mark.parametrize("shape", [(3, 1, 16, 20), (2, 3, 12, 9), (2, 2, 8, 9, 10), (2, 1, 30)])
@pytest.mark.parametrize("data_range", [1.0, 2.0, 255.0])
def test_ssim_is_that_of_scikit_image(shape, data_range):
    truth, forecast = smooth(*shape)
    score = StructuralSimilarity.start(shape[0], data_range)
    score.accumulate(forecast * data_range, truth * data_range)
    expected = [
        structural_similarity(a * data_range, b * data_range, data_range=data_range, channel_axis=0)
        for a, b in zip(forecast, truth, strict=True)
    ]
    np.testing.assert_allclose(score.compute(), expected, rtol=1e-10)


def test_ssim_of_equal_and_of_flat_frames():
    truth, _ = smooth(1, 1, 16, 16)
    score = StructuralSimilarity.start(1)
    score.accumulate(truth, truth)
    np.testing.assert_allclose(score.compute(), 1)
    flat = StructuralSimilarity.start(1)
    flat.accumulate(np.zeros((1, 1, 8, 8)), np.full((1, 1, 8, 8), 0.5))
    np.testing.assert_allclose(flat.compute(), 1e-4 / (0.25 + 1e-4))


def test_the_range_that_an_earlier_scikit_image_took_is_kinder():
    truth, forecast = smooth(1, 1, 16, 16)
    one, two = (StructuralSimilarity.start(1, data_range) for data_range in (1, 2))
    for score in (one, two):
        score.accumulate(forecast, truth)
    assert two.compute() > one.compute()


def test_windows_with_missing_pixels_do_not_count():
    truth, forecast = smooth(1, 1, 16, 24)
    holed = truth.copy()
    holed[0, 0, :, :8] = np.nan
    score, part = StructuralSimilarity.start(1), StructuralSimilarity.start(1)
    score.accumulate(forecast, holed)
    part.accumulate(forecast[..., 8:], truth[..., 8:])
    np.testing.assert_allclose(score.compute(), part.compute(), rtol=1e-9)
    nothing = StructuralSimilarity.start(1)
    nothing.accumulate(forecast, np.full_like(truth, np.nan))
    assert np.isnan(nothing.compute()).all()


def test_psnr_by_hand_and_against_scikit_image():
    truth, forecast = smooth(2, 3, 8, 8)
    for data_range in (1.0, 255.0):
        score = PeakSignalToNoiseRatio.start(2, data_range)
        score.accumulate(forecast * data_range, truth * data_range)
        expected = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(forecast, truth, strict=True)]
        np.testing.assert_allclose(score.compute(), expected)
    tenth = PeakSignalToNoiseRatio.start(1)
    tenth.accumulate(np.full((1, 1, 4, 4), 0.1), np.zeros((1, 1, 4, 4)))
    np.testing.assert_allclose(tenth.compute(), 20)
    tenth.accumulate(np.full((1, 1, 4, 4), 0.01), np.zeros((1, 1, 4, 4)))
    np.testing.assert_allclose(tenth.compute(), 30)
    tenth.accumulate(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4)))
    assert np.isinf(tenth.compute()).all()


@pytest.mark.parametrize("kind", [PeakSignalToNoiseRatio, StructuralSimilarity])
def test_merging_is_scoring_together(kind):
    truth, forecast = smooth(6, 2, 1, 10, 10)
    together, parts = kind.start(2, 3.0), [kind.start(2, 3.0) for _ in range(2)]
    for number in range(6):
        together.accumulate(forecast[number], truth[number])
        parts[number % 2].accumulate(forecast[number], truth[number])
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.compute(), together.compute())
    assert merged.data_range == 3.0
    with pytest.raises(UserError, match="data ranges"):
        merged.merge(kind.start(2))
    with pytest.raises(UserError, match="data_range must be > 0"):
        kind.start(2, 0)


def test_frames_must_hold_a_window():
    with pytest.raises(UserError, match="7 pixels a side"):
        StructuralSimilarity.start(1).accumulate(np.zeros((1, 1, 6, 9)), np.zeros((1, 1, 6, 9)))


def test_video_scores_and_persistence():
    truth, forecast = smooth(4, 2, 8, 10)
    scores = VideoScores.start(3)
    scores.accumulate(forecast[1:], truth[1:], truth[0])
    found = scores.compute()
    difference = forecast[1:] - truth[1:]
    still = truth[:1] - truth[1:]
    np.testing.assert_allclose(found["mse"], (difference**2).mean((1, 2, 3)))
    np.testing.assert_allclose(found["summed_squared_error"], (difference**2).sum((1, 2, 3)))
    np.testing.assert_allclose(found["summed_absolute_error"], np.abs(difference).sum((1, 2, 3)))
    np.testing.assert_allclose(found["persistence_mae"], np.abs(still).mean((1, 2, 3)))
    np.testing.assert_allclose(found["psnr"], -10 * np.log10(found["mse"]))
    assert set(found) == {f"{p}{n}" for p in ("", "persistence_") for n in VIDEO_SCORES}
    assert all(values.shape == (3,) for values in found.values())
    merged = scores.merge(VideoScores.start(3))
    assert merged.num_samples == 1
    np.testing.assert_allclose(merged.compute()["ssim"], found["ssim"])
    with pytest.raises(UserError, match="different lead times or data ranges"):
        scores.merge(VideoScores.start(3, 255))


VIDEO_SCORES = {"mse", "mae", "summed_squared_error", "summed_absolute_error", "psnr", "ssim"}


def test_video_scores_leave_out_what_is_missing():
    truth, forecast = smooth(2, 1, 9, 9)
    missing = np.zeros(truth.shape, bool)
    missing[0, :, :2] = True
    by_mask, by_nan = VideoScores.start(2), VideoScores.start(2)
    by_mask.accumulate(forecast, truth, truth[0], missing)
    by_nan.accumulate(forecast, np.where(missing, np.nan, truth), truth[0])
    known = (forecast - truth)[0][~missing[0]]
    np.testing.assert_allclose(by_mask.compute()["mse"][0], (known**2).mean())
    np.testing.assert_allclose(by_mask.compute()["summed_squared_error"][0], (known**2).mean() * 81)
    for name, values in by_mask.compute().items():
        np.testing.assert_allclose(values, by_nan.compute()[name], err_msg=name)


def test_small_frames_have_no_ssim_and_shapes_are_checked():
    scores = VideoScores.start(1)
    scores.accumulate(np.ones((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), np.zeros((2, 4, 4)))
    assert np.isnan(scores.compute()["ssim"]).all()
    assert scores.compute()["summed_absolute_error"] == 32
    with pytest.raises(UserError, match="last_input"):
        scores.accumulate(np.ones((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), np.zeros((4, 4)))
    with pytest.raises(UserError, match="missing has shape"):
        scores.accumulate(
            np.ones((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((4, 4), bool)
        )
    with pytest.raises(UserError, match="forecast has shape"):
        scores.accumulate(np.ones((1, 1, 4, 4)), np.zeros((1, 2, 4, 4)), np.zeros((2, 4, 4)))
