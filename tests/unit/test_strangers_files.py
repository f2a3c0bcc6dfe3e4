"""Weights, checkpoints and tables of strangers are data: whatever is in them, nothing of it runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from prediction_tables import manifest_table
from small_checkpoint import make_checkpoint
from small_parts import RAW, receipt, write_part

from vidpipe.checkpoint_facts import checkpoint_id, facts_from_json
from vidpipe.checkpoints import load_checkpoint
from vidpipe.clips import read_clips
from vidpipe.ledger import Ledger, open_ledger
from vidpipe.manifest import read_manifest
from vidpipe.manifest.tables import table
from vidpipe.model_spec import ModelSpec
from vidpipe.models import build_empty, build_model
from vidpipe.models.weights import read_state
from vidpipe.storage import filesystem

LABELS = ("run", "walk")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
SMALL |= {"image_size": 32, "patch_size": 16, "num_frames": 4}


class Bomb:
    """Unpickled, it makes the file `marker`."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def torch_file(bomb: Bomb, path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "other": bomb}, path)


def old_torch_file(bomb: Bomb, path: Path) -> None:
    torch.save({"weight": bomb}, path, _use_new_zipfile_serialization=False)


def bare_pickle(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps(bomb))


def pickle_of_protocol_0(bomb: Bomb, path: Path) -> None:
    path.write_bytes(pickle.dumps(bomb, protocol=0))


PICKLES = (torch_file, old_torch_file, bare_pickle, pickle_of_protocol_0)


def test_the_bomb_works(marker):
    pickle.loads(pickle.dumps(Bomb(marker)))  # noqa: S301 - that it would run is what is shown here
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("write", PICKLES)
def test_weights_that_are_a_pickle_are_refused_and_not_run(write, suffix, tmp_path, marker):
    write(Bomb(marker), tmp_path / f"weights{suffix}")
    with pytest.raises(ValueError, match=r"holds more than tensors|is not a whole"):
        read_state(str(tmp_path / f"weights{suffix}"))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("write", PICKLES)
def test_a_folder_of_transformers_with_a_pickle_is_refused_and_not_run(write, name, tmp_path, marker):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "videomae", **SMALL}))
    write(Bomb(marker), folder / name)
    with pytest.raises(Exception):  # noqa: B017, PT011 - transformers has its own words for each
        build_model(ModelSpec(model="transformer", backbone=str(folder), weights="default"), LABELS)
    assert not marker.exists()


def test_a_folder_of_transformers_that_brings_code_is_read_without_it(tmp_path, marker):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: ...\n")
    auto_map = dict.fromkeys(("AutoConfig", "AutoModelForVideoClassification", "AutoVideoProcessor"), "evil.Evil")
    for kind in ("videomae", "evil"):
        (folder / "config.json").write_text(json.dumps({"model_type": kind, "auto_map": auto_map, **SMALL}))
        spec = ModelSpec(model="transformer", backbone=str(folder), weights="none")
        if kind == "evil":
            with pytest.raises(ValueError, match="is not a folder that holds one"):
                build_empty(spec, LABELS)
        else:
            build_empty(spec, LABELS)
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForVideoClassification": "evil/repo--model.Evil"}},
        {"attn_implementation": "evil/kernel"},
        {"_attn_implementation": "evil/kernel"},
        {"experts_implementation": "evil/kernel"},
        {"quantization_config": {"quant_method": "gptq"}},
        {"name_or_path": "evil/repo", "_name_or_path": "evil/repo"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_checkpoints_configuration_brings_numbers_and_no_code(changes):
    config = {"model_type": "videomae", **SMALL, **changes}
    model = build_empty(ModelSpec(model="transformer", weights="none"), LABELS, config)
    text = model.config.to_json_string(use_diff=False)  # type: ignore[operator, union-attr]
    assert "kernel" not in text
    assert "gptq" not in text
    assert "--model.Evil" not in text
    assert model.config._attn_implementation in ("sdpa", "eager")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "config",
    [{}, {"model_type": "bert"}, {"model_type": "evil"}, {"model_type": None}],
    ids=["none at all", "another network", "no network", "null"],
)
def test_a_checkpoints_configuration_of_no_video_classifier_is_refused_and_nothing_fetched(config, tmp_path):
    spec = ModelSpec(model="transformer", backbone=str(tmp_path), weights="none")
    with pytest.raises(ValueError, match=r"config\.json is of a .*, not of videomae"):
        build_empty(spec, LABELS, config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_checkpoint(tmp_path_factory.mktemp("saved")))


def signed(folder: Path, **changes: Any) -> None:
    """checkpoint.json with other facts, and the id that fits them: whoever can write the folder can do that, too."""
    content = json.loads((folder / "checkpoint.json").read_text()) | changes
    stated = content.pop("checkpoint_id")
    for _ in range(2):
        text = json.dumps({**content, "checkpoint_id": stated}).encode()
        try:
            facts_from_json(text, "x")
        except ValueError as error:
            stated = str(error).partition("its content's ")[2][:16] or stated
    (folder / "checkpoint.json").write_bytes(json.dumps({**content, "checkpoint_id": stated}).encode())


def test_a_checkpoint_that_names_files_elsewhere_reads_its_own_two_and_no_other(saved, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    sha256 = json.loads((folder / "checkpoint.json").read_text())["sha256"]
    signed(folder, sha256={**sha256, "../../../etc/passwd": "0" * 64, "/etc/shadow": "0" * 64, "s3://b/k": "0" * 64})
    asked: list[str] = []
    monkeypatch.setattr("vidpipe.checkpoints.filesystem", lambda url: asked.append(url) or filesystem(url))
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.checkpoint_id == checkpoint_id(checkpoint.facts, json.loads(
        (folder / "checkpoint.json").read_text())["sha256"])  # fmt: skip
    assert {Path(url).name for url in asked} == {"checkpoint.json", "model.safetensors"}
    assert {str(Path(url).parent) for url in asked} == {str(folder)}


def header_of(lie: dict[str, Any], num_bytes: int = 16) -> bytes:
    text = json.dumps(lie).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * num_bytes


LIES = {
    "a header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "a header of negative length": b"\xff" * 8 + b"{}",
    "a header of nothing": struct.pack("<Q", 0),
    "no header": b"",
    "a header that is no JSON": struct.pack("<Q", 4) + b"{{{{",
    "a tensor past the end": header_of({"w": {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, 1 << 22]}}),
    "a tensor larger than its bytes": header_of({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 16]}}),
    "a tensor before the beginning": header_of({"w": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}}),
    "a shape that overflows": header_of({"w": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 16]}}),
    "two tensors in one place": header_of(
        {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("a", "b")}
    ),
    "a type that there is not": header_of({"w": {"dtype": "PICKLE", "shape": [4], "data_offsets": [0, 16]}}),
}


@pytest.mark.parametrize("content", LIES.values(), ids=LIES)
def test_weights_whose_header_lies_are_refused(content, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"is not a whole \.safetensors file"):
        read_state(str(tmp_path / "w.safetensors"))


def test_a_sound_file_is_read(tmp_path):
    safetensors.torch.save_file({"w": torch.ones(4)}, tmp_path / "w.safetensors")
    assert read_state(str(tmp_path / "w.safetensors"))["w"].sum() == 4


@pytest.fixture
def rays_types() -> None:
    """What Ray Data registers with Arrow in every process that uses it, as all workers do."""
    import ray.data  # noqa: F401
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    with suppress(pa.ArrowKeyError):  # it is registered
        pa.register_extension_type(ArrowPythonObjectType())


def pickled_column(name: str, marker: Path, num_rows: int) -> tuple[pa.Field, pa.Array]:
    metadata = {b"ARROW:extension:name": b"ray.data.arrow_pickled_object", b"ARROW:extension:metadata": b""}
    values = pa.array([pickle.dumps(Bomb(marker))] * num_rows, pa.large_binary())
    return pa.field(name, pa.large_binary(), metadata=metadata), values


def with_bomb(rows: pa.Table, name: str, marker: Path) -> pa.Table:
    field, values = pickled_column(name, marker, len(rows))
    if name in rows.column_names:
        return rows.set_column(rows.schema.get_field_index(name), field, values)
    return rows.append_column(field, values)


@pytest.mark.usefixtures("rays_types")
def test_the_bomb_in_a_table_works(tmp_path, marker):
    pq.write_table(with_bomb(pa.table({"a": [1]}), "b", marker), tmp_path / "t.parquet")
    pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert marker.exists()


@pytest.mark.usefixtures("rays_types")
@pytest.mark.parametrize("column", ["label", "url", "video_id", "note"])
def test_a_manifest_with_pickles_in_it_is_refused_and_they_do_not_run(column, tmp_path, marker):
    rows = with_bomb(manifest_table([{"url": "/v/a.mp4"}]), column, marker)
    pq.write_table(rows, tmp_path / "m.parquet")
    for read in (read_manifest, table):
        with pytest.raises(ValueError, match="may run code"):
            read(str(tmp_path / "m.parquet"))
    assert not marker.exists()


@pytest.mark.usefixtures("rays_types")
@pytest.mark.parametrize("column", ["video_id", "clip_index", "label"])
def test_clips_with_pickles_in_them_are_refused_and_they_do_not_run(column, tmp_path, marker):
    (tmp_path / "clips").mkdir()
    part = write_part(tmp_path / "clips/part.parquet", RAW, {"a": 2})
    Ledger(str(tmp_path), RAW).commit([{**receipt("a", 2), "part": "part.parquet"}])
    rows = pq.read_table(part)
    pq.write_table(with_bomb(rows, column, marker), part)
    with pytest.raises(ValueError, match="may run code"):
        list(read_clips(str(tmp_path)))
    assert not marker.exists()


@pytest.mark.usefixtures("rays_types")
def test_a_status_table_with_pickles_in_it_is_refused_and_they_do_not_run(tmp_path, marker):
    Ledger(str(tmp_path), RAW).commit([receipt("a", 0)])
    (path,) = (tmp_path / "status").iterdir()
    pq.write_table(with_bomb(pq.read_table(path), "error", marker), path)
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        open_ledger(str(tmp_path)).read().to_pylist()
    assert not marker.exists()


@pytest.mark.parametrize("part", ["../../secret.parquet", "/etc/passwd", "s3://other/p.parquet", "a/../../b", "..", ""])
def test_a_status_table_names_parts_in_its_own_folder_only(part, tmp_path):
    Ledger(str(tmp_path), RAW).commit([{**receipt("a", 1), "part": part}])
    with pytest.raises(ValueError, match=r"which is no file of clips/"):
        list(read_clips(str(tmp_path)))


def test_uuids_and_tensors_of_arrow_itself_are_data(tmp_path):
    rows = manifest_table([{"url": str(tmp_path / "a.mp4")}]).append_column(
        "id", pa.array([b"0" * 16], pa.uuid())
    )  # fmt: skip
    pq.write_table(rows, tmp_path / "m.parquet")
    assert len(read_manifest(str(tmp_path / "m.parquet"))) == 1
