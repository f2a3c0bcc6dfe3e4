"""List videos into a manifest."""

from vidpipe.cli import parse, run
from vidpipe.config import IndexConfig

if __name__ == "__main__":
    config = parse(IndexConfig)
    from vidpipe.stages.index import index_videos

    run(index_videos, config)
