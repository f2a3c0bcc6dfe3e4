"""Predictions, and the truth where it is known, to a page and its numbers: no Ray, one process."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from vidpipe.config import EvaluateConfig
from vidpipe.interrupts import ignore_interrupts
from vidpipe.plain_text import say
from vidpipe.report import build_report, film_strips, read_inputs, render, thresholds_file
from vidpipe.storage import storage_errors
from vidpipe.transfer import check_writable, join, put_bytes

logger = logging.getLogger(__name__)


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Write report.json, thresholds.json and, last, report.html; return what report.json says."""
    start_s = time.monotonic()
    inputs = read_inputs(config)
    with storage_errors(config.output):
        check_writable(config.output)
    report = build_report(config, inputs)
    lists = [*report["shown"].values(), *((report["against"] or {}).get(name, []) for name in ("better", "worse"))]
    wanted = [video for videos in lists for video in videos]
    strips = film_strips(wanted, inputs.training.clips, inputs.training.reach) if config.strips else None
    page = render(report, inputs.videos, strips).encode()
    put_json(report, join(config.output, "report.json"))
    limits = thresholds_file(report)
    if limits is not None:
        put_json(limits, join(config.output, "thresholds.json"))
    put_bytes(page, join(config.output, "report.html"))
    ignore_interrupts()
    print_summary(config, report, len(page), time.monotonic() - start_s)
    return report


def put_json(content: dict[str, Any], url: str) -> None:
    put_bytes(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n", url)


def print_summary(config: EvaluateConfig, report: dict[str, Any], num_bytes: int, seconds: float) -> None:
    counts, metrics = report["counts"], report["metrics"]
    say(
        f"videos     {counts['num_videos']} = {counts['num_labelled']} labelled + {counts['num_unknown']} unknown + "
        f"{counts['num_failed']} failed + {counts['num_missing']} without a prediction"
    )
    if metrics is not None:
        low, high = (100 * edge for edge in metrics["top1_ci"])
        say(f"top-1      {100 * metrics['top1']:.1f} % (95 %: {low:.1f} to {high:.1f}), {report['split_name']}")
    else:
        say("top-1      not known: no true labels (--manifest)")
    if report["against"] is not None:
        against = report["against"]
        say(
            f"against    {against['num_better']} videos got better, {against['num_worse']} worse, "
            f"McNemar p = {against['mcnemar_p']:.3g}"
        )
    for warning in report["warnings"]:
        say(f"note       {warning}")
    say(f"report     {join(config.output, 'report.html')} ({num_bytes / 1e6:.1f} MB, {seconds:.1f} s)")
