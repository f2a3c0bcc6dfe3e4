"""Training on a real local Ray: the same steps on more workers, a lost worker, S3, and reruns. Mostly starts of Ray."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rank_group
import ray
import s3fs
from labelled_clips import write_clips
from rank_group import (
    Both,
    BreakOnce,
    KeepSteps,
    KillOnce,
    history_of,
    largest_difference,
    tiny_config,
    train_alone,
    train_group,
)
from running import S3Server

from vidpipe.checkpoints import load_checkpoint
from vidpipe.config import TrainConfig
from vidpipe.stages.train import train

ray.cloudpickle.register_pickle_by_value(rank_group)  # the workers know vidpipe, not its tests


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("train") / "clips"
    return write_clips(output, {"train": 53, "val": 13, "test": 11}, num_clips=2, failed={"val": 2})


def ray_config(clips: Path | str, output: Path | str, num_workers: str, **changes: Any) -> TrainConfig:
    free: dict[str, Any] = {"num_workers": num_workers, "cpus_per_worker": 1, "device": "cpu"}
    return tiny_config(clips, output, **{"learning_rate": 3e-4, **free, **changes})


@pytest.mark.usefixtures("ray_local")
def test_three_workers_of_ray_take_the_steps_of_one_process_and_a_rerun_none(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = ray_config(clips, tmp_path / "ray", "3")
    killed = tmp_path / "ray" / f".vidpipe-ray-{32 * 'a'}"  # of a run that ended without a word
    killed.mkdir(parents=True)
    mine = tmp_path / "ray" / "ray" / "src" / "main.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    train(config, KeepSteps(tmp_path / "three"))
    printed = capsys.readouterr().out
    assert "geometry   frames are stored at 32x32; training takes all of it; evaluation takes all of it\n" in printed
    assert "\nsharing " not in printed, "this model has neither batch norm nor dropout"
    expected = train_alone(dataclasses.replace(config, output=str(tmp_path / "alone")), KeepSteps(tmp_path / "one"))
    num_steps, losses, gradients = largest_difference(tmp_path / "one", tmp_path / "three")
    print(f"3 workers of Ray: {num_steps} steps, loss within {losses:.1e}, gradients within {gradients:.1e}")
    assert num_steps == 20
    assert losses < 1e-5
    assert gradients < 1e-5
    run = json.loads((tmp_path / "ray" / "run.json").read_text())
    assert run["splits"]["val"] == {"clips": 26, "videos": 13, "failed_videos": 2}
    assert run["metrics"]["val"]["num_failed"] == 2
    assert run["metrics"]["val"]["num_videos"] == expected["metrics"]["val"]["num_videos"] == 15
    assert load_checkpoint(config.output).checkpoint_id == run["checkpoint_id"]
    assert list(tmp_path.glob("ray/.vidpipe-ray-*")) == []
    assert files_in(tmp_path / "ray" / "ray").keys() == {"src/main.py"}
    assert mine.read_text() == "mine"

    before = files_in(tmp_path / "ray")
    rerun = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from rank_group import tiny_config
from vidpipe.stages.train import train
train(tiny_config({str(clips)!r}, {config.output!r}, learning_rate=3e-4, num_workers="2"))
assert "ray" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", rerun], check=True, timeout=120, cwd=Path(__file__).parent)
    assert files_in(tmp_path / "ray") == before
    with pytest.raises(ValueError, match=r"holds a run with other settings \(seed 0 then, 1 now\).*--restart"):
        train(dataclasses.replace(config, seed=1))
    with pytest.raises(ValueError, match=r"4 workers with 1 CPUs each do not fit: Ray has nodes with 3 CPUs"):
        train(dataclasses.replace(config, seed=1, num_workers="4", restart=True))
    assert files_in(tmp_path / "ray") == before


def files_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.usefixtures("ray_local")
def test_a_worker_killed_or_broken_in_mid_epoch_is_replaced_and_changes_nothing(clips: Path, tmp_path: Path):
    calm = ray_config(clips, tmp_path / "calm", "2", checkpoint_every_s=1e-9)
    assert train_group(calm, 2) == [0, 0]
    stormy = dataclasses.replace(calm, output=str(tmp_path / "stormy"))
    broken = BreakOnce(tmp_path / "broken", step=4)  # a ValueError that is no mistake of the command's
    train(stormy, Both(broken, KillOnce(tmp_path / "killed", step=13, rank=1)))
    assert (tmp_path / "broken").exists()
    assert (tmp_path / "killed").exists()
    assert history_of(stormy) == history_of(calm)


@pytest.mark.usefixtures("ray_local")
def test_a_mistake_that_shows_on_a_worker_ends_the_run_at_once(clips: Path, tmp_path: Path):
    config = ray_config(clips, tmp_path / "out", "1", learning_rate=1e30, optimizer="sgd", max_failures=1000)
    with pytest.raises(ValueError, match=r"the loss was (nan|inf).*give a lower --learning-rate"):
        train(config)
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.usefixtures("ray_local")
def test_clips_and_output_on_s3_and_an_elastic_number_of_workers(s3: S3Server, clips: Path, tmp_path: Path):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    fs.put(str(clips), f"{bucket}/clips", recursive=True)
    config = ray_config(f"{bucket}/clips", f"{bucket}/out", "1-2")
    train(config)
    expected = train_alone(ray_config(clips, tmp_path / "out", "1"))
    fs.invalidate_cache()
    history = json.loads(fs.cat(f"{bucket}/out/history.json"))
    assert [entry["train_loss"] for entry in history["epochs"]] == pytest.approx(
        [entry["train_loss"] for entry in expected["epochs"]], abs=1e-5
    )
    assert load_checkpoint(config.output).checkpoint_id == history["checkpoint_id"]
    names = {path.removeprefix(f"{bucket}/out/".removeprefix("s3://")) for path in fs.find(f"{bucket}/out")}
    assert {"run.json", "settings.json", "state/00002-0000000.pt", "last/model.safetensors"} <= names
    assert any(name.startswith("tensorboard/events") for name in names)
    assert not any(name.startswith("ray/") for name in names)
