"""Scores that stream: `start`, `accumulate` sample by sample, `merge` those of several workers, `compute`."""

from mim3d.metrics.affected import AffectedOverlap as AffectedOverlap
from mim3d.metrics.affected import Overlap as Overlap
from mim3d.metrics.density import CLIP_NUMBER_DENSITY as CLIP_NUMBER_DENSITY
from mim3d.metrics.density import MidPlaneLogDensityError as MidPlaneLogDensityError
from mim3d.metrics.density import VolumeLogDensityError as VolumeLogDensityError
from mim3d.metrics.density import log_number_density as log_number_density
from mim3d.metrics.density import number_density as number_density
from mim3d.metrics.density import site_voxel as site_voxel
from mim3d.metrics.errors import MeanAbsoluteError as MeanAbsoluteError
from mim3d.metrics.errors import MeanSquaredError as MeanSquaredError
from mim3d.metrics.errors import SummedAbsoluteError as SummedAbsoluteError
from mim3d.metrics.errors import SummedSquaredError as SummedSquaredError
from mim3d.metrics.events import EVENT_SCORES as EVENT_SCORES
from mim3d.metrics.events import RADAR_THRESHOLDS as RADAR_THRESHOLDS
from mim3d.metrics.events import ContingencyTable as ContingencyTable
from mim3d.metrics.events import EventRates as EventRates
from mim3d.metrics.events import EventScores as EventScores
from mim3d.metrics.extrapolation import extrapolate_echoes as extrapolate_echoes
from mim3d.metrics.forecast import ForecastScores as ForecastScores
from mim3d.metrics.forecast import Spread as Spread
from mim3d.metrics.gas import density_distribution as density_distribution
from mim3d.metrics.gas import distribution_distance as distribution_distance
from mim3d.metrics.gas import power_spectrum as power_spectrum
from mim3d.metrics.perceptual import LearnedPerceptualSimilarity as LearnedPerceptualSimilarity
from mim3d.metrics.perceptual import PerceptualDistance as PerceptualDistance
from mim3d.metrics.reliability import Coverage as Coverage
from mim3d.metrics.reliability import Reliability as Reliability
from mim3d.metrics.remnant import remnant_scores as remnant_scores
from mim3d.metrics.similarity import PeakSignalToNoiseRatio as PeakSignalToNoiseRatio
from mim3d.metrics.similarity import StructuralSimilarity as StructuralSimilarity
from mim3d.metrics.streaming import MeanScore as MeanScore
from mim3d.metrics.threshold import RecallCurve as RecallCurve
from mim3d.metrics.video import VideoScores as VideoScores
from mim3d.metrics.vrmse import VRMSE as VRMSE

__all__ = [
    "CLIP_NUMBER_DENSITY",
    "EVENT_SCORES",
    "RADAR_THRESHOLDS",
    "VRMSE",
    "AffectedOverlap",
    "ContingencyTable",
    "Coverage",
    "EventRates",
    "EventScores",
    "ForecastScores",
    "LearnedPerceptualSimilarity",
    "MeanAbsoluteError",
    "MeanScore",
    "MeanSquaredError",
    "MidPlaneLogDensityError",
    "Overlap",
    "PeakSignalToNoiseRatio",
    "PerceptualDistance",
    "RecallCurve",
    "Reliability",
    "Spread",
    "StructuralSimilarity",
    "SummedAbsoluteError",
    "SummedSquaredError",
    "VideoScores",
    "VolumeLogDensityError",
    "density_distribution",
    "distribution_distance",
    "extrapolate_echoes",
    "log_number_density",
    "number_density",
    "power_spectrum",
    "remnant_scores",
    "site_voxel",
]
