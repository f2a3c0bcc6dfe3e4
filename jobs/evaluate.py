"""Say how good predictions are, on a page to look at."""

from vidpipe.cli import parse, run
from vidpipe.config import EvaluateConfig

if __name__ == "__main__":
    config = parse(EvaluateConfig)

    from vidpipe.stages.evaluate import evaluate

    run(evaluate, config)
