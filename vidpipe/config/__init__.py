"""One frozen dataclass a job, checked when built. Imports neither torch nor ray: --help answers at once."""

from vidpipe.config.doctor import DoctorConfig
from vidpipe.config.evaluate import EvaluateConfig
from vidpipe.config.index import VIDEO_SUFFIXES, IndexConfig, Layout
from vidpipe.config.predict import PredictConfig
from vidpipe.config.preprocess import PreprocessConfig
from vidpipe.config.train import TrainConfig

__all__ = [
    "VIDEO_SUFFIXES",
    "DoctorConfig",
    "EvaluateConfig",
    "IndexConfig",
    "Layout",
    "PredictConfig",
    "PreprocessConfig",
    "TrainConfig",
]
