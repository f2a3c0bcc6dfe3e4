"""Look before the night begins."""

from vidpipe.cli import parse, run
from vidpipe.config import DoctorConfig

if __name__ == "__main__":
    config = parse(DoctorConfig)

    from vidpipe.stages.doctor import doctor

    run(doctor, config)
