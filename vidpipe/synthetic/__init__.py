"""Generated videos whose label is how a shape moves: the demo, the tests and the benchmarks. No Ray, no torch."""

from vidpipe.synthetic.encode import ENCODINGS, Encoding, write_video
from vidpipe.synthetic.layouts import (
    GeneratedVideo,
    generate_broken,
    generate_folder,
    generate_hmdb51,
    generate_ucf101,
)
from vidpipe.synthetic.motion import MOTIONS, Motion, iter_frames, render

__all__ = [
    "ENCODINGS",
    "MOTIONS",
    "Encoding",
    "GeneratedVideo",
    "Motion",
    "generate_broken",
    "generate_folder",
    "generate_hmdb51",
    "generate_ucf101",
    "iter_frames",
    "render",
    "write_video",
]
