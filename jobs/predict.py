"""Label a video with a checkpoint."""

from vidpipe.cli import parse, run
from vidpipe.config import PredictConfig

if __name__ == "__main__":
    config = parse(PredictConfig)

    from vidpipe.stages.predict import predict

    run(predict, config)
