"""--help as its readers see it, in windows of three widths, and through `| head`."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tokenize
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from running import ROOT, environment, job_command

JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py"))
PACKAGE = ROOT / "vidpipe"
SETTINGS = [*(PACKAGE / "config").glob("*.py"), *(PACKAGE / f"{name}_spec.py" for name in ("model", "transform"))]
EVERY_JOB = pytest.mark.parametrize("job", JOBS)


@cache
def help_of(job: str, width: int) -> list[str]:
    done = subprocess.run(
        job_command(job, "--help"), env=environment({"COLUMNS": str(width)}), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@EVERY_JOB
@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_line_of_help_is_as_long_as_the_window_lets_it(job: str, width: int):
    lines = help_of(job, width)[1:]  # without the usage, which holds the job's path
    assert max(map(len, lines)) <= width
    rows = [line[2:-2] for line in lines if line.startswith("│")]
    column = next(row.index("show this") for row in rows if row.startswith("-h"))
    for row, below in pairwise(rows):
        is_flag_alone = row[column - 2 : column].strip() != ""
        if row[column:].strip() and not is_flag_alone and not below[:column].strip():
            next_word = below.split()[0]  # an empty line would have none
            assert len(row.rstrip()) + 1 + len(next_word) > width - 4, f"{row!r} could hold {next_word!r}"


@EVERY_JOB
def test_no_comment_of_the_code_is_in_the_help(job: str):
    shown = " ".join(re.sub(r"[│─╭╮╰╯]", " ", "\n".join(help_of(job, 100))).split())
    comments = [
        token.string.strip("# ")
        for path in [*SETTINGS, PACKAGE / "spec.py"]
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith("# noqa")
    ]
    assert len(comments) > 5
    assert [comment for comment in comments if comment in shown] == []


@EVERY_JOB
def test_a_value_is_shown_by_its_kind_and_no_default_is_empty(job: str):
    shown = "\n".join(help_of(job, 100))
    assert "{None" not in shown
    assert "(default: )" not in shown
    assert not re.search(r"\(default[^()]*\)\.?\s+\(default", re.sub(r"[\s│]+", " ", shown))


def with_closed_pipe(command: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@EVERY_JOB
def test_help_may_be_cut_off_by_its_reader(job: str):
    assert with_closed_pipe(job_command(job, "--help")) == (0, "")


def test_a_job_goes_on_when_nobody_reads_what_it_prints(tmp_path: Path):
    work = "import sys; from vidpipe.plain_text import say; say('a'); say('b', 'c'); open(sys.argv[1], 'w'); say('d')"
    assert with_closed_pipe([sys.executable, "-c", work, str(tmp_path / "done")]) == (0, "")
    assert (tmp_path / "done").exists()
