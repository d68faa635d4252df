"""Scores, figures and folders of forecasts on named data sets of images."""

from mim3d.report.images.evaluation import ImageEvaluation as ImageEvaluation
from mim3d.report.images.evaluation import evaluate_images as evaluate_images
from mim3d.report.images.evaluation import image_score_table as image_score_table
from mim3d.report.images.evaluation import write_image_evaluation as write_image_evaluation
from mim3d.report.images.figures import animate_images as animate_images
from mim3d.report.images.figures import draw_strip as draw_strip
from mim3d.report.images.forecast import ImageForecast as ImageForecast
from mim3d.report.images.forecast import forecast_images as forecast_images
from mim3d.report.images.opening import open_as_trained as open_as_trained
from mim3d.report.images.run import forecast_dataset as forecast_dataset

__all__ = [
    "ImageEvaluation",
    "ImageForecast",
    "animate_images",
    "draw_strip",
    "evaluate_images",
    "forecast_dataset",
    "forecast_images",
    "image_score_table",
    "open_as_trained",
    "write_image_evaluation",
]
