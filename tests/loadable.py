"""Decoders that load on this machine: torchcodec needs FFmpeg's libraries, which a fresh one lacks."""

from __future__ import annotations

from functools import cache

import pytest

from vidpipe.decode import check_decoder
from vidpipe.errors import UsageError


def loadable(decoder: str) -> str:
    """The decoder's name; the test is skipped, with the reason, where it does not load."""
    reason = why_not(decoder)
    if reason is not None:
        pytest.skip(reason)
    return decoder


@cache
def why_not(decoder: str) -> str | None:
    """Why a decoder does not load here; None where it does."""
    try:
        check_decoder(decoder)
    except UsageError as error:
        return str(error)
    return None
