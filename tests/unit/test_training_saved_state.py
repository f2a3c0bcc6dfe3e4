"""The state of a run on disk: two are kept, a damaged one is passed over, and nothing in it is ever executed."""

from __future__ import annotations

import pickle
import time
from pathlib import Path

import pytest
import torch
from labelled_clips import write_clips
from rank_group import tiny_config, train_alone

from vidpipe.training.saved_state import TrainState, load_state, newest_state, save_state, state_names


def state(epoch: int, step: int) -> TrainState:
    weights = {"layer": torch.arange(6.0).reshape(2, 3) + epoch}
    return TrainState(epoch, step, model=weights, loss_sum=0.1 + step, history=[{"epoch": 1, "top1": 0.1 + 0.2}])


def save_three(output: Path) -> list[str]:
    for epoch, step in ((0, 999), (1, 0), (1, 1000)):
        save_state(str(output), state(epoch, step))
    return state_names(str(output))


def test_the_two_newest_states_are_kept(tmp_path: Path):
    assert save_three(tmp_path) == ["00001-0000000.pt", "00001-0001000.pt"]
    assert newest_state(str(tmp_path)) == "00001-0001000.pt"


def test_a_state_comes_back_as_it_was(tmp_path: Path):
    save_state(str(tmp_path), state(3, 4))
    [name] = state_names(str(tmp_path))
    loaded, saved = load_state(str(tmp_path), name), state(3, 4)
    torch.testing.assert_close(loaded.model, saved.model, rtol=0, atol=0)
    assert (loaded.epoch, loaded.step, loaded.loss_sum, loaded.history) == (3, 4, saved.loss_sum, saved.history)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_torn_newest_file_falls_back_to_the_one_before(tmp_path: Path, share: float, caplog):
    *_, newest = save_three(tmp_path)
    path = tmp_path / "state" / newest
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert newest_state(str(tmp_path)) == "00001-0000000.pt"


def test_without_any_whole_state_a_run_begins_anew(tmp_path: Path):
    assert newest_state(str(tmp_path)) is None
    for name in save_three(tmp_path):
        (tmp_path / "state" / name).write_bytes(b"")
    assert newest_state(str(tmp_path)) is None


def test_short_epochs_of_a_large_model_are_not_all_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writing takes a tenth of the time at most, and what is left at the end is the same."""
    clips = write_clips(tmp_path / "clips", {"train": 12, "val": 6})
    calm = tiny_config(clips, tmp_path / "calm", epochs=12)
    expected = train_alone(calm)
    written: list[int] = []

    def save_slowly(output: str, content: TrainState) -> None:
        written.append(content.epoch)
        time.sleep(1.0)
        save_state(output, content)

    monkeypatch.setattr("vidpipe.training.trainer.save_state", save_slowly)
    large = tiny_config(clips, tmp_path / "large", epochs=12)
    assert train_alone(large) == expected
    assert (written[0], written[-1]) == (1, 12)
    assert len(written) < 12
    for name in ("best", "last"):
        weights = [(tmp_path / run / name / "model.safetensors").read_bytes() for run in ("large", "calm")]
        assert weights[0] == weights[1]


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_passed_over_and_its_code_does_not_run(tmp_path: Path):
    save_three(tmp_path)
    torch.save({**vars(state(9, 0)), "model": Bomb(tmp_path / "boom")}, tmp_path / "state" / "00009-0000000.pt")
    (tmp_path / "state" / "00010-0000000.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    assert newest_state(str(tmp_path)) == "00001-0001000.pt"
    assert not (tmp_path / "boom").exists()


def test_a_file_that_was_never_finished_is_no_state(tmp_path: Path):
    names = save_three(tmp_path)
    (tmp_path / "state" / ".00002-0000000.pt.123").write_bytes(b"half")
    assert state_names(str(tmp_path)) == names
