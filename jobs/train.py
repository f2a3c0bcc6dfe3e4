"""Train a model on clips."""

from vidpipe.cli import parse, run
from vidpipe.config import TrainConfig

if __name__ == "__main__":
    config = parse(TrainConfig)

    from vidpipe.stages.train import train

    run(train, config)
