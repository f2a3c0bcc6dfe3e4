"""Ctrl-C in jobs with a Ray of their own, at a moment before they work and while they do; see interrupt_storm.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from interrupt_storm import Try, interrupt, prepare

TRIES = {
    "imports": Try("train", 0, moment=0.3, second=0.1, to_group=True, beside=False),
    "ray starts": Try("train", 1, moment=7.0, second=0.2, to_group=False, beside=False),
    "at work": Try("predict", 2, moment=14.0, second=0.3, to_group=True, beside=False),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupts") / "inputs"
    prepare(folder)
    return folder


@pytest.mark.parametrize("one", TRIES.values(), ids=TRIES)
def test_two_signals_end_a_job_with_130_one_message_and_no_process_left(inputs: Path, tmp_path: Path, one: Try):
    outcome, number = None, 0
    # A machine so fast that it was done by then, or as good as done.
    while outcome is None or outcome.verdict in ("result written", "on the edge"):
        outcome = interrupt(one, inputs, tmp_path / str(number), span_s=1.0)
        one, number = replace(one, moment=one.moment / 2), number + 1
    assert (outcome.code, outcome.verdict) == (130, "interrupted"), outcome.text
