"""Which packets to decode for which frames: pure functions on what the packets say, without decoding anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """What is known of each packet's picture before it is decoded; arrays in decoding order."""

    stamp: np.ndarray
    """int64: orders the pictures as they are shown (presentation timestamps, or ranks where there are none)."""
    is_start: np.ndarray
    """bool: decoding may start here, and everything shown from here on comes out right."""
    is_shown: np.ndarray
    """bool: a full decode shows this picture."""
    is_idle: np.ndarray
    """bool: no other picture refers to this one, so it need not be fed when it is not wanted."""
    is_stamped: bool
    """The packets carry these stamps themselves; otherwise they have to be given them before they are decoded."""

    @cached_property
    def in_order(self) -> np.ndarray:
        """Positions of the shown pictures in presentation order: frame i is the picture at position in_order[i]."""
        order = np.argsort(self.stamp, kind="stable")
        return order[self.is_shown[order]]


@dataclass(frozen=True)
class Run:
    """A stretch of the stream that is decoded in one go, from a start to the last wanted picture."""

    start: int
    stop: int
    """One past the last packet to feed."""
    feed: np.ndarray
    """Positions of the packets to feed, ascending."""


def plan_runs(pictures: Pictures, targets: list[int]) -> list[Run]:
    """The stretches to decode for the pictures at positions `targets`; groups without a wanted picture are left out.

    decoding order   I0 p b b p b b I1 b b p b b p I2 ...
    wanted                    ^            ^
    runs             [0 ......]     [7 ....]         b b after I1 are shown before it: not fed
    """
    starts = np.flatnonzero(pictures.is_start)
    spans: list[list[int]] = []
    for target in sorted(targets):
        start = start_for(pictures, starts, target)
        # A picture shown before the group it lies in reaches back: the stretches before it may be inside its own.
        while spans and start <= spans[-1][1]:
            start = min(start, spans.pop()[0])
        spans.append([start, target])
    wanted = np.zeros(len(pictures.stamp), bool)
    wanted[targets] = True
    return [Run(start, last + 1, packets_to_feed(pictures, start, last, wanted)) for start, last in spans]


def frame_costs(pictures: Pictures) -> np.ndarray:
    """How many packets are fed for each frame when nothing else is wanted; int64, in presentation order.

    Those that are left out since nothing wanted depends on them (idle ones, and of AV1 others) count all the same: of a
    file that is read by ranges nobody knows yet which these are, and the same frames shall be the cheap ones.
    """
    stamp, starts = pictures.stamp, np.flatnonzero(pictures.is_start)
    num_packets = len(stamp)
    costs = np.ones(num_packets, np.int64)
    if len(starts) < num_packets:
        group = np.maximum(np.searchsorted(starts, np.arange(num_packets), side="right") - 1, 0)
        while (is_before := (group > 0) & (stamp < stamp[starts[group]])).any():  # as in `start_for`, for all at once
            group[is_before] -= 1
        none_idle, nothing = replace(pictures, is_idle=np.zeros(num_packets, bool)), np.zeros(num_packets, bool)
        by_group = np.argsort(group, kind="stable")
        for targets in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
            fed = packets_to_feed(none_idle, int(starts[group[targets[0]]]), int(targets[-1]), nothing)
            costs[targets] = np.searchsorted(fed, targets, side="right") + ~np.isin(targets, fed)
    return costs[pictures.in_order]


def damaged(pictures: Pictures, targets: list[int], damage: list[int]) -> list[int]:
    """Those of `targets` that depend on a packet of `damage`: one between their start and themselves.

    A picture shown before the start is none of them: where a video begins with such ones, they cannot be decoded.
    """
    starts, stamp = np.flatnonzero(pictures.is_start), pictures.stamp
    spans = [(start_for(pictures, starts, target), target) for target in targets]
    return [
        target
        for start, target in spans
        if any(start <= position <= target and stamp[position] >= stamp[start] for position in damage)
    ]


def start_for(pictures: Pictures, starts: np.ndarray, target: int) -> int:
    """Where to start for one picture: the last start before it in the stream that is not shown after it."""
    group = int(np.searchsorted(starts, target, side="right")) - 1
    while group > 0 and pictures.stamp[target] < pictures.stamp[starts[group]]:
        group -= 1
    return int(starts[group]) if group >= 0 else 0


def packets_to_feed(pictures: Pictures, start: int, last: int, wanted: np.ndarray) -> np.ndarray:
    """Positions from `start` to `last` without what cannot matter: pictures shown before the start, and idle ones."""
    positions = np.arange(start, last + 1)
    needed = ~pictures.is_idle[positions]
    if start > 0:  # pictures shown before the start belong to the group before; at 0 the decoder itself decides
        needed &= pictures.stamp[positions] >= pictures.stamp[start]
    return positions[needed | wanted[positions]]
