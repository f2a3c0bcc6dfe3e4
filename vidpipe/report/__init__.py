"""The page people look at: report.html, and the numbers behind it, report.json and thresholds.json."""

from vidpipe.report.build import build_report, thresholds_file
from vidpipe.report.film import film_strips
from vidpipe.report.inputs import Inputs, read_inputs
from vidpipe.report.render import render

__all__ = ["Inputs", "build_report", "film_strips", "read_inputs", "render", "thresholds_file"]
