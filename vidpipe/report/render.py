"""report.html from what report.json says: one file, no request to anywhere.

Names of videos and labels are hostile: everything goes through Jinja's autoescape, the script writes text, never HTML,
and the page's policy runs no script but its own, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from vidpipe.answers import OUTCOMES, JoinedVideos
from vidpipe.metrics.answers import precision_curve
from vidpipe.report import charts
from vidpipe.report.cards import (
    MANY_CLASSES,
    against_cards,
    drift_cards,
    headline_cards,
    night_cards,
    percent,
    run_facts,
)
from vidpipe.report.film import FilmStrip

MAX_ROWS = 20_000
NAME_LENGTH = 160
GROUPS = {
    "better": ("Got better", "Right now, wrong by the other checkpoint; the surest first."),
    "worse": ("Got worse", "Wrong now, right by the other checkpoint; where that was surest first."),
    "mistakes": ("Most confident mistakes", "Wrong with high scores: classes that look alike, or a wrong true label."),
    "surest": ("Surest of each label", "One video a label, with the highest score."),
    "least_confident": ("Least confident", "The lowest scores: what the model knows least, worth labelling next."),
}  # fmt: skip


def render(report: dict[str, Any], videos: JoinedVideos, strips: dict[str, FilmStrip] | None) -> str:
    """The page; `strips` by video_id, None when they were switched off."""
    metrics = report["metrics"]
    files = resources.files("vidpipe.report") / "page"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pct": percent, "count": "{:,}".format, "short": shortened, "below": below}
    script = (files / "page.js").read_text("utf-8")
    listed = listed_rows(videos)
    folder = common_folder(videos.table["url"].to_pylist())
    lists = report["shown"] | ({} if report["against"] is None else _of(report["against"], "better", "worse"))
    return environment.get_template("page.html").render(
        report=report,
        metrics=metrics,
        title=_title(report),
        sections=_sections(report),
        header_facts=_header_facts(report),
        cards=headline_cards(metrics) if metrics else night_cards(report["counts"]),
        against_cards=against_cards(report["against"]),
        drift_cards=drift_cards(report["drift"]),
        charts=all_charts(report, videos),
        labels=videos.answers.labels,
        statuses=[(index, name) for index, name in enumerate(OUTCOMES) if (videos.outcomes == index).any()],
        film_groups=[film_group(name, lists[name], strips) for name in GROUPS if name in lists],
        folder=folder,
        num_listed=len(listed),
        num_cut=len(videos) - len(listed),
        run_facts=run_facts(report["run"]),
        settings_text=json.dumps({name: report[name] for name in ("settings", "versions", "checkpoint")}, indent=1),
        videos_data=videos_data(videos, listed, folder, has_truth=metrics is not None),
        css=Markup((files / "page.css").read_text("utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def shortened(text: str | None, length: int) -> str:
    """For people: printable, and cut in the middle to that length."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in str("none" if text is None else text))
    if len(printable) <= length:
        return printable
    kept = length - 1
    return f"{printable[: kept // 2]}…{printable[len(printable) - (kept - kept // 2) :]}"


def common_folder(urls: list[str]) -> str:
    """The folder that all videos lie in, with its slash; empty where it would save little."""
    folder = posixpath.commonprefix([min(urls), max(urls)]).rpartition("/")[0]
    return f"{folder}/" if len(folder) > 12 else ""


def below(url: str, folder: str) -> str:
    return url.removeprefix(folder)


def _of(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _title(report: dict[str, Any]) -> str:
    name = shortened("/".join(report["settings"]["predictions"].rstrip("/").split("/")[-2:]), 60)
    return name if report["metrics"] is None else f"{name}, {report['split_name']}"


def _header_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    times = report["predicted_at"]
    days = times[0][:16] if times[0][:10] == times[1][:10] else f"{times[0][:10]} to {times[1][:10]}"
    found = [("predictions", report["settings"]["predictions"]), ("checkpoint", report["checkpoint"]["id"])]
    found += [("model", report["checkpoint"]["model"])] if report["checkpoint"]["model"] else []
    return [*found, ("predicted", days.replace("T", " ") + " UTC")]


def _sections(report: dict[str, Any]) -> list[tuple[str, str]]:
    there = {
        "summary": True,
        "against": report["against"],
        "drift": report["drift"],
        "training": report["training"]["epochs"] or report["training"]["notes"],
    }
    names = {"summary": "Numbers", "against": "Comparison", "drift": "Drift", "training": "Training"}
    names |= {"classes": "Classes", "scores": "Scores", "videos": "Videos", "failures": "Failures", "run": "Run"}
    return [(id, name) for id, name in names.items() if there.get(id, True)]


def all_charts(report: dict[str, Any], videos: JoinedVideos) -> dict[str, Any]:
    """By section; without those that would show nothing."""
    metrics, training, drift = report["metrics"], report["training"], report["drift"]
    found: dict[str, Any] = {
        "training": charts.training_charts(
            training["epochs"],
            training["best_epoch"],
            training["split"],
            with_top5=len(videos.answers.labels) > MANY_CLASSES,
        ),
        "scores": score_charts(report, videos) if videos.answers.answered.any() else [],
        "drift": [],
    }
    if metrics is not None:
        support = [each["support"] for each in metrics["per_class"].values()]
        found["confusion"] = charts.confusion_chart(metrics["labels"], metrics["confusion"], support)
    elif report["counts"]["label_mix"]:
        found["mix"] = charts.mix_chart(report["counts"]["label_mix"], {"share": "now"})
    if drift is not None:
        if drift["labels"]["labels"]:
            names = {"share_now": "now", "share_before": "before"}
            found["drift"].append(charts.mix_chart(drift["labels"]["labels"], names, "Label mix", "drift-mix"))
        found["drift"].append(charts.score_drift_chart(drift["scores"]))
    return found


def score_charts(report: dict[str, Any], videos: JoinedVideos) -> list[Any]:
    answers, outcomes = videos.answers, videos.outcomes
    by_outcome = {
        name: answers.score[answers.answered & (outcomes == OUTCOMES.index(name))]
        for name in ("right", "wrong", "unknown", "labelled")
    }
    scores = charts.score_chart({name: found for name, found in by_outcome.items() if len(found)})
    if report["metrics"] is None:
        return [scores]
    return [
        charts.reliability_chart(report["metrics"]["reliability"]),
        charts.precision_chart(precision_curve(answers), report["thresholds"]["precision"]),
        scores,
    ]


def film_group(name: str, found: list[dict[str, Any]], strips: dict[str, FilmStrip] | None) -> dict[str, Any]:
    title, lead = GROUPS[name]
    films = [
        {
            **entry,
            "outcome_index": OUTCOMES.index(entry["outcome"]),
            "strip": None if strips is None else strips[entry["video_id"]],
        }
        for entry in found
    ]
    return {"title": title, "lead": lead, "films": films}


def listed_rows(videos: JoinedVideos) -> np.ndarray:
    """Rows of the table of all videos, those worth looking at first: sure mistakes, what failed, the least sure."""
    answers, outcomes = videos.answers, videos.outcomes
    order = ("wrong", "failed", "missing", "unknown", "right", "labelled")
    rank = np.array([order.index(name) for name in OUTCOMES])[outcomes]
    score = np.nan_to_num(answers.score) * np.where(rank == 0, -1, 1)
    return np.lexsort((score, rank))[:MAX_ROWS]


def videos_data(videos: JoinedVideos, listed: np.ndarray, folder: str, *, has_truth: bool) -> Markup:
    """JSON for the page's script: a short row a video; no character in it can end the script element."""
    part = videos.take(listed)
    answers = part.answers
    codes = sorted({code for code in part.table["error_code"].to_pylist() if code})
    rows = [
        (
            *(shortened(below(url, folder), NAME_LENGTH), truth, best, None if np.isnan(score) else round(score, 4)),
            *(outcome, codes.index(code) if code else -1),
        )
        for url, truth, best, score, outcome, code in zip(
            part.table["url"].to_pylist(),
            answers.truth.tolist(),
            answers.best.tolist(),
            answers.score.tolist(),
            part.outcomes.tolist(),
            part.table["error_code"].to_pylist(),
            strict=True,
        )
    ]
    labels = [shortened(label, 80) for label in answers.labels]
    content = {"labels": labels, "codes": codes, "outcomes": OUTCOMES, "has_truth": has_truth, "rows": rows}
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)
