"""`python -m vidpipe.synthetic OUT`: write small generated videos, in one of the layouts that people have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import tyro

from vidpipe.errors import UsageError
from vidpipe.synthetic import ENCODINGS, MOTIONS, generate_broken, generate_folder, generate_hmdb51, generate_ucf101

CLIPS_A_GROUP = 2  # of ucf101


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Write small generated videos whose label is how a shape moves."""

    out: tyro.conf.Positional[str]
    """Folder or URL to write to; videos already there are left alone."""
    layout: Literal["folders", "ucf101", "hmdb51"] = "folders"
    """folders: one folder a label, all encodings in turn. ucf101 and hmdb51: the names, the containers and the official
    lists of these sets."""
    num_videos: int = 40
    """Good videos, over 8 labels; of ucf101 and hmdb51 as many of each label."""
    num_frames: int = 48
    """Frames a video, at 25 a second."""
    num_broken: int = 0
    """folders: broken ones besides: half an MP4 and a text file in turn."""
    seed: int = 0
    """What is in the videos."""
    num_workers: int = 1
    """Processes that write."""

    def __post_init__(self) -> None:
        if self.layout != "folders" and self.num_broken:
            raise UsageError(f"num_broken is for layout folders, not {self.layout}; drop it")
        step = {"folders": 1, "ucf101": CLIPS_A_GROUP * len(MOTIONS), "hmdb51": len(MOTIONS)}[self.layout]
        if self.num_videos < 1 or self.num_videos % step:
            raise UsageError(f"num_videos of layout {self.layout} must be a multiple of {step}, got {self.num_videos}")


def main(config: SyntheticConfig) -> None:
    num_groups = config.num_videos // (CLIPS_A_GROUP * len(MOTIONS))
    generate = {
        "folders": partial(generate_folder, num_videos=config.num_videos),
        "ucf101": partial(generate_ucf101, num_groups=num_groups, clips_per_group=CLIPS_A_GROUP),
        "hmdb51": partial(generate_hmdb51, videos_per_class=config.num_videos // len(MOTIONS)),
    }[config.layout]
    generate(config.out, seed=config.seed, num_frames=config.num_frames, num_workers=config.num_workers)
    generate_broken(config.out, num_videos=config.num_broken, seed=config.seed)
    encodings = min(config.num_videos, len(ENCODINGS)) if config.layout == "folders" else 1
    labels = min(config.num_videos, len(MOTIONS))
    print(
        f"{config.out}: {config.num_videos} videos ({labels} labels, {encodings} encodings) "
        f"and {config.num_broken} broken ones"
    )


if __name__ == "__main__":
    main(tyro.cli(SyntheticConfig, prog="python -m vidpipe.synthetic"))
