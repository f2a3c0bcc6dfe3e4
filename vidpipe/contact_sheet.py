"""A PNG of sampled frames with their times: what the model will see, to look at before training on it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont

from vidpipe.clips import ClipTable
from vidpipe.ledger import Ledger
from vidpipe.parts import own_part, spec_of
from vidpipe.plain_tables import open_parquet
from vidpipe.storage import filesystem
from vidpipe.transfer import join, put_bytes

MAX_VIDEOS = 16
FRAMES_A_ROW = 8
FRAME_PX = 112
CAPTION_PX = 16
MARGIN_PX = 8


def write_contact_sheet(output: str, ledger: Ledger) -> str | None:
    """Write OUTPUT/contact_sheet.png: a row of frames for each of some videos; returns its URL, None without clips."""
    status = ledger.read(["video_id", "url", "status", "part", "label", "num_damaged"])
    ok = status.filter(pc.equal(status["status"], "ok")).sort_by("url")
    if not len(ok):
        return None
    chosen = ok.take(pa.array(np.unique(np.linspace(0, len(ok) - 1, MAX_VIDEOS).round().astype(np.int64))))
    rows = []
    for video in chosen.to_pylist():
        frames, times_s = first_frames(output, video["part"], video["video_id"])
        rows.append((caption(video), frames, times_s))
    target = join(output, "contact_sheet.png")
    buffer = io.BytesIO()
    draw(rows).save(buffer, "PNG")
    put_bytes(buffer.getvalue(), target)
    return target


def first_frames(output: str, part: str, video_id: str) -> tuple[np.ndarray, list[float]]:
    """Up to `FRAMES_A_ROW` frames (N, H, W, C) of a video, spread over its first clips, and their times."""
    url = join(output, "clips", part)
    fs, path = filesystem(url)
    tables = []
    with own_part(url), fs.open(path, "rb") as file, open_parquet(file) as source:
        spec = spec_of(source.schema_arrow)
        for group in range(source.num_row_groups):
            ids = source.read_row_group(group, ["video_id"])["video_id"]
            positions = np.flatnonzero(pc.equal(ids, video_id).to_numpy())[:FRAMES_A_ROW]
            if len(positions):
                tables.append(source.read_row_group(group).take(pa.array(positions)))
            if sum(map(len, tables)) >= FRAMES_A_ROW:
                break
    clips = pa.concat_tables(tables).slice(0, FRAMES_A_ROW)
    frames = ClipTable(clips, spec).numpy().reshape(-1, *spec.shape[1:])
    times_s = [time for clip in clips["frame_pts_s"].to_pylist() for time in clip]
    shown = np.unique(np.linspace(0, len(frames) - 1, FRAMES_A_ROW).round().astype(np.int64))
    return frames[shown], [times_s[index] for index in shown]


def caption(video: dict[str, Any]) -> str:
    name = "/".join(video["url"].rsplit("/", 2)[-2:])
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    label = f"   label: {video['label']}" if video["label"] is not None else ""
    damage = f"   damaged packets: {video['num_damaged']}" if video["num_damaged"] else ""
    return printable + label + damage


def draw(rows: list[tuple[str, np.ndarray, list[float]]]) -> Image.Image:
    """One row a video: its caption, then its frames, each with its time below."""
    height, width = rows[0][1].shape[1:3]
    scale = FRAME_PX / max(height, width)
    shown_h, shown_w = max(round(height * scale), 1), max(round(width * scale), 1)
    row_h = CAPTION_PX + shown_h + CAPTION_PX + MARGIN_PX
    cell_w = max(shown_w, 56) + 4
    sheet = Image.new("RGB", (MARGIN_PX * 2 + FRAMES_A_ROW * cell_w, MARGIN_PX + row_h * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    bold, plain = ImageFont.load_default(12), ImageFont.load_default(11)
    for row, (text, frames, times_s) in enumerate(rows):
        top = MARGIN_PX + row * row_h
        pen.text((MARGIN_PX, top), text[:140], "black", bold)
        for column, (frame, time_s) in enumerate(zip(frames, times_s, strict=True)):
            left = MARGIN_PX + column * cell_w
            image = Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame)
            sheet.paste(image.resize((shown_w, shown_h), Image.Resampling.BILINEAR), (left, top + CAPTION_PX))
            pen.text((left, top + CAPTION_PX + shown_h), f"{time_s:.2f} s", "dimgray", plain)
    return sheet
