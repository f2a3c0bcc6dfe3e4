"""`python -m vidpipe.synthetic OUT`: write a folder of small generated videos, one folder a label."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from vidpipe.synthetic import ENCODINGS, MOTIONS, generate_broken, generate_folder


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Write small generated videos whose label is how a shape moves."""

    out: tyro.conf.Positional[str]
    """Folder or URL to write to; videos already there are left alone."""
    num_videos: int = 40
    """Good videos, over 8 labels and all encodings in turn."""
    num_broken: int = 0
    """Broken ones besides: half an MP4 and a text file in turn."""
    seed: int = 0
    """What is in the videos."""
    num_workers: int = 1
    """Processes that write."""


def main(config: SyntheticConfig) -> None:
    generate_folder(config.out, num_videos=config.num_videos, seed=config.seed, num_workers=config.num_workers)
    generate_broken(config.out, num_videos=config.num_broken, seed=config.seed)
    encodings, labels = min(config.num_videos, len(ENCODINGS)), min(config.num_videos, len(MOTIONS))
    print(
        f"{config.out}: {config.num_videos} videos ({labels} labels, {encodings} encodings) "
        f"and {config.num_broken} broken ones"
    )


if __name__ == "__main__":
    main(tyro.cli(SyntheticConfig, prog="python -m vidpipe.synthetic"))
