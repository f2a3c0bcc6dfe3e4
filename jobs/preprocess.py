"""Decode videos into a table of clips."""

from vidpipe.cli import parse, run
from vidpipe.config import PreprocessConfig

if __name__ == "__main__":
    config = parse(PreprocessConfig)

    from vidpipe.stages.preprocess import preprocess

    run(preprocess, config)
