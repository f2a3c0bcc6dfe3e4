"""Files of others in the output of a training run: they stay, and a run that would replace one is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from labelled_clips import write_clips
from rank_group import job_of, tiny_config, train_alone
from torch.utils.tensorboard import SummaryWriter

from vidpipe.errors import UsageError
from vidpipe.stages.train import train
from vidpipe.training.checks import begin_run, check_output
from vidpipe.training.saved_state import TrainState, save_state


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "out", {"train": 12, "val": 6})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_older_states_go_and_weights_of_somebodys_stay(tmp_path: Path):
    states = tmp_path / "state"
    states.mkdir()
    mine = {"backbone.pt": {"epoch": 1}, "00000-0000001.pt": {"weights": torch.ones(2)}, "99999-0000000.pt": {}}
    for name, content in mine.items():
        torch.save(content, states / name)
    (states / "00000-0000002.pt").write_bytes(b"mine")
    mine["00000-0000002.pt"] = {}
    before = {name: (states / name).read_bytes() for name in mine}
    for step in (3, 4, 5):
        save_state(str(tmp_path), TrainState(0, step, model={"layer": torch.ones(3)}))
    assert set(names_in(states)) - mine.keys() == {"00000-0000004.pt", "00000-0000005.pt"}
    assert {name: (states / name).read_bytes() for name in mine} == before


def test_restart_removes_what_the_run_before_wrote_and_nothing_else(clips: Path, tmp_path: Path, caplog):
    config = tiny_config(clips, tmp_path / "run", epochs=1)
    begin_run(config, job_of(config).clips)
    train_alone(config)
    (own,) = names_in(tmp_path / "run" / "tensorboard")
    with SummaryWriter(tmp_path / "run" / "tensorboard", filename_suffix=".mine") as writer:
        writer.add_scalar("train/loss", 1.0, 1)
    curves = tmp_path / "run" / "tensorboard"
    (curves / "notes.txt").write_text("mine")
    (curves / own.replace(".tfevents.", ".notes.")).write_text("written by vidpipe")
    torch.save({"weights": torch.ones(2)}, tmp_path / "run" / "state" / "backbone.pt")
    assert len(names_in(tmp_path / "run" / "state")) > 1
    check_output(config.output)
    assert "state/backbone.pt" in caplog.text
    assert "tensorboard/notes.txt" in caplog.text
    begin_run(dataclasses.replace(config, restart=True), job_of(config).clips)
    assert names_in(tmp_path / "run" / "state") == ["backbone.pt"]
    assert [name.rsplit(".")[-1] for name in names_in(curves)] == [own.rsplit(".")[-1], "mine", "txt"]
    assert own not in names_in(curves)
    assert not (tmp_path / "run" / "history.json").exists()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", {"command": "make"}),
        ("settings.json", {"theme": "dark"}),
        ("history.json", ["mine"]),
        ("best/model.safetensors", None),
        ("last/README.md", None),
        ("best/checkpoint.json", {"step": 3}),
        ("state/00001-0000002.pt", None),
    ],
)
def test_a_file_of_somebodys_that_a_run_would_replace_is_an_error_before_any_work(
    clips: Path, tmp_path: Path, name: str, content: object, restart: bool
):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine" if content is None else json.dumps(content))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=rf"{name} was not written by vidpipe.*another --output"):
        train(tiny_config(clips, tmp_path / "out", restart=restart))
    assert path.read_bytes() == before
    assert [file for file in tmp_path.joinpath("out").rglob("*") if file.is_file()] == [path]
