"""Figures, moving pictures, tables and the folders that hold them."""

from mim3d.report.animation import animate_forecast as animate_forecast
from mim3d.report.animation import render_frames as render_frames
from mim3d.report.batch import BatchSettings as BatchSettings
from mim3d.report.batch import batch_lines as batch_lines
from mim3d.report.batch import forecast_folder as forecast_folder
from mim3d.report.comparison import Comparison as Comparison
from mim3d.report.comparison import ShellHistory as ShellHistory
from mim3d.report.comparison import compare as compare
from mim3d.report.description import describe as describe
from mim3d.report.evaluation import Evaluation as Evaluation
from mim3d.report.evaluation import best_model_of_runs as best_model_of_runs
from mim3d.report.evaluation import evaluate as evaluate
from mim3d.report.evaluation import write_evaluation as write_evaluation
from mim3d.report.evaluation_figure import draw_evaluation as draw_evaluation
from mim3d.report.run import forecast_file as forecast_file
from mim3d.report.run import write_affected_particles as write_affected_particles
from mim3d.report.run import write_forecast as write_forecast
from mim3d.report.summary import draw_summary as draw_summary
from mim3d.report.table import evaluation_lines as evaluation_lines
from mim3d.report.table import forecast_table as forecast_table
from mim3d.report.table import score_table as score_table
from mim3d.report.table import set_table as set_table
from mim3d.report.table import speed_lines as speed_lines
from mim3d.report.table import trust_lines as trust_lines

__all__ = [
    "BatchSettings",
    "Comparison",
    "Evaluation",
    "ShellHistory",
    "animate_forecast",
    "batch_lines",
    "best_model_of_runs",
    "compare",
    "describe",
    "draw_evaluation",
    "draw_summary",
    "evaluate",
    "evaluation_lines",
    "forecast_file",
    "forecast_folder",
    "forecast_table",
    "render_frames",
    "score_table",
    "set_table",
    "speed_lines",
    "trust_lines",
    "write_affected_particles",
    "write_evaluation",
    "write_forecast",
]
