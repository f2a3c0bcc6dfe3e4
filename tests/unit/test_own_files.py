"""Files in an output's own folders that vidpipe did not write: they stay, they are not read, and they are named."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_checkpoint import make_checkpoint
from small_parts import GRAY, RAW
from status_rows import manifest, part, row, write_finished_part

from vidpipe.config import PredictConfig, PreprocessConfig
from vidpipe.errors import UsageError
from vidpipe.journal import Journal
from vidpipe.lease import hold
from vidpipe.ledger import Ledger
from vidpipe.own_files import check_others
from vidpipe.predictions.side_table import SideTable
from vidpipe.stages.predict import predict
from vidpipe.stages.preprocess import preprocess
from vidpipe.transfer import check_writable

OTHERS = (".DS_Store", "_SUCCESS", "my_embeddings.npy", "notes.txt", "sub/deep/notes.txt")
TABLE = pa.table({"video_id": ["mine"], "label": ["mine"]})
JOURNAL_COLUMNS = pa.schema({"video_id": pa.string(), "segments_part": pa.string()}, {b"vidpipe": b"{}"})


def put(folder: Path, *names: str) -> dict[Path, bytes]:
    """Files of somebody's, with their content."""
    files = {folder / name: f"mine: {name}".encode() for name in names}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def put_table(path: Path, table: pa.Table = TABLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commit_rows(output: Path, **parts: str) -> None:
    """An output of preprocess whose status rows name these parts, which are there."""
    for video, name in parts.items():
        write_finished_part(output, name, video)
    Ledger(str(output), RAW).commit([row(video, name) for video, name in parts.items()])


@pytest.fixture
def project(tmp_path: Path, plain_video: Path) -> Path:
    """A folder of somebody's work, with two videos and notes in its folder clips/."""
    put(tmp_path / "proj/clips", "notes.txt", "list.csv")
    for name in ("clips/a.mp4", "clips/walk/B.MP4"):
        (tmp_path / "proj" / name).parent.mkdir(exist_ok=True)
        shutil.copy(plain_video, tmp_path / "proj" / name)
    (tmp_path / "proj/clips/list.csv").write_text(f"path\na.mp4\nfile://{tmp_path}/proj/clips/walk/B.MP4\n")
    (tmp_path / "list.csv").write_text("path\nproj/clips/walk/B.MP4\n")
    rows = {"video_id": ["b"], "url": [f"file://{tmp_path}/proj/clips/walk/B.MP4"], "version": ["1"], "size_bytes": [1]}
    put_table(tmp_path / "listed.parquet", pa.table(rows))
    (tmp_path / "link").symlink_to("proj/clips/walk")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/clips").symlink_to(tmp_path / "proj/clips")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{}/proj/clips", "{}/proj"),
        ("{}/proj/clips/", "{}/proj/"),
        ("proj/clips", "./proj"),
        ("{}/proj/clips/walk", "proj"),
        ("{}/proj/clips/a.mp4", "{}/proj"),
        ("{}/proj", "{}/proj"),
        ("file://{}/proj/clips", "{}/proj"),
        ("{}/proj/clips", "file://{}/proj"),
        ("{}/proj/../proj/clips", "{}/proj"),
        ("link", "{}/proj"),
        ("{}/proj/clips", "{}/other"),
        ("{}/list.csv", "{}/proj"),
        ("{}/proj/clips/list.csv", "{}/proj"),
        ("{}/listed.parquet", "{}/proj"),
    ],
)
def test_videos_in_the_folder_where_their_clips_would_go_are_refused_and_stay(
    project: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str
):
    monkeypatch.chdir(project)
    before = files_in(project)
    config = PreprocessConfig(source=source.format(project), output=output.format(project), clip=RAW)
    with pytest.raises(UsageError, match=r"lies in .*clips/, where .* keeps its clips; give an --output"):
        preprocess(config)
    assert files_in(project) == before


@pytest.mark.parametrize("folder", ["segments", "features", "predictions"])
def test_videos_where_their_predictions_would_go_are_refused_and_stay(tmp_path: Path, plain_video: Path, folder: str):
    checkpoint = make_checkpoint(tmp_path / "model")
    source = tmp_path / "proj" / folder
    put(source, "notes.txt")
    shutil.copy(plain_video, source / "a.mp4")
    before = files_in(tmp_path)
    config = PredictConfig(source=str(source), output=str(tmp_path / "proj"), checkpoint=checkpoint)
    with pytest.raises(UsageError, match=rf"a.mp4 lies in .*{folder}/, where .* keeps its {folder}"):
        predict(config)
    assert files_in(tmp_path) == before


def test_what_others_put_beside_the_parts_stays_and_is_named_once(output: Path, caplog: pytest.LogCaptureFixture):
    commit_rows(output, one=part("a"))
    others = put(output / "clips", *OTHERS) | put(output / "status", "_SUCCESS", ".DS_Store")
    write_finished_part(output, part("b"), "two")
    ledger = Ledger(str(output), RAW)
    with caplog.at_level(logging.WARNING):
        check_others(str(output), ledger.others())
    [warning] = caplog.messages
    assert warning == (
        f"{output} holds files that vidpipe did not write (clips/.DS_Store, clips/_SUCCESS, clips/my_embeddings.npy, "
        "clips/notes.txt, clips/sub/ and 2 more): they are left alone, and not read"
    )
    assert ledger.adopt(manifest("two", "three")) == 1
    ledger.commit([row("one", part("b"))])
    assert ledger.sweep() == 1  # the part that rows named before
    ledger.compact()
    assert files_in(output / "clips").keys() - others.keys() == {output / "clips" / part("b")}
    assert {path: path.read_bytes() for path in others} == others


def test_a_rerun_beside_files_of_others_does_nothing_and_removes_nothing(project: Path, caplog):
    """Between two runs somebody works in the folder."""
    source, output = project / "proj/clips/a.mp4", project / "out"
    commit_rows(output, nobody=part("a"))
    listed = {"video_id": ["nobody"], "url": [str(source)], "version": ["version of nobody"], "size_bytes": [1]}
    put_table(project / "listed.parquet", pa.table({**listed, "label": ["left"], "split": ["train"]}))
    others = put(output / "clips", *OTHERS) | put(output / "lease", "todo.json", f"{32 * 'a'}.json")
    (output / "lease" / f"{32 * 'a'}.json").write_bytes(b'{"mine": 1}')
    others[output / "lease" / f"{32 * 'a'}.json"] = b'{"mine": 1}'
    preprocess(PreprocessConfig(source=str(project / "listed.parquet"), output=str(output), clip=RAW))
    assert json.loads((output / "run.json").read_text())["counts"]["unchanged"] == 1
    assert {path: path.read_bytes() for path in others} == others
    [warning] = [message for message in caplog.messages if "did not write" in message]
    assert "clips/.DS_Store" in warning


@pytest.mark.parametrize(
    "name", ["mine.parquet", "MINE.PARQUET", ".mine.parquet", "_mine.parquet", "mine.pq", "sub/deep/x.parquet"]
)
def test_a_table_that_a_reader_of_the_clips_would_take_for_clips_is_refused_and_stays(output: Path, name: str):
    commit_rows(output, one=part("a"))
    put_table(output / "clips" / name)
    before = files_in(output)
    ledger = Ledger(str(output), RAW)
    with pytest.raises(UsageError, match=r"is no file of the table .*move it elsewhere, or give another --output"):
        check_others(str(output), ledger.others())
    assert ledger.adopt(manifest("two")) == 0
    assert ledger.sweep() == 0
    assert files_in(output) == before


def test_a_name_like_that_of_a_part_does_not_make_a_file_vidpipes(output: Path):
    commit_rows(output, one=part("a"))
    put_table(output / "clips" / part("b"))
    put_table(output / "clips" / f".{part('c')}.123")
    put(output / "clips", f".{part('d')}.123")
    write_finished_part(output, part("e").replace("parquet", "PARQUET"), "two")
    (output / "clips" / part("f")).symlink_to(output / "clips" / part("a"))
    before = files_in(output)
    ledger = Ledger(str(output), RAW)
    assert ledger.adopt(manifest("two")) == 0
    assert ledger.sweep() == 0
    assert files_in(output) == before
    with pytest.raises(UsageError, match=part("b")):
        check_others(str(output), {"clips": [part("b")]})


def test_hidden_files_that_macs_leave_are_no_tables(output: Path):
    put(output / "clips", f"._{part('a')}", "._mine.parquet", ".ipynb_checkpoints/x.parquet")
    check_others(str(output), Ledger(str(output), RAW).others())


@pytest.mark.parametrize("name", ["mine.parquet", "0000000001.parquet", "0000000002-0123456789ab.parquet"])
def test_a_table_of_somebodys_in_status_is_no_status_and_refused(output: Path, name: str):
    commit_rows(output, one=part("a"))
    path = put_table(output / "status" / name)
    with pytest.raises(UsageError, match=name):
        check_others(str(output), Ledger(str(output), RAW).others())
    assert path.exists()


def test_parts_of_a_run_with_other_settings_are_still_removed(output: Path):
    write_finished_part(output, part("a"), "one", spec=GRAY)
    ledger = Ledger(str(output), RAW)
    assert ledger.others()["clips"] == []
    assert ledger.sweep() == 1


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(str(tmp_path / "predictions"), JOURNAL_COLUMNS)


def side_table(journal: Journal, **changes: Any) -> SideTable:
    output = journal.folder.removesuffix("/predictions")
    return SideTable(output, "segments", journal, **{"is_asked_for": True, **changes})


def write_as_before_marks(folder: Path, table: pa.Table) -> str:
    """A file beside the predictions as 4d62fbf wrote it: named by a hash of its bytes, without a word in it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    name = f"{hashlib.blake2b(data, digest_size=12).hexdigest()}.parquet"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def test_tables_beside_the_predictions_go_when_no_row_names_them_and_those_of_others_stay(
    journal: Journal, tmp_path: Path
):
    folder, table = tmp_path / "segments", side_table(journal)
    before = [write_as_before_marks(folder, pa.table({"video_id": [name]})) for name in ("a", "b", "killed")]
    journal.commit([{"video_id": name, "segments_part": file} for name, file in zip("ab", before, strict=False)])
    journal.commit([{"video_id": "a", "segments_part": table.write(pa.table({"video_id": ["a"]}))}])
    table.write(pa.table({"video_id": ["killed, too"]}))
    others = put(folder, *OTHERS)
    foreign = put_table(folder / part("0"))
    assert table.others() == [".DS_Store", part("0"), "_SUCCESS", "my_embeddings.npy", "notes.txt", "sub/"]
    assert table.sweep() == 3
    assert {path.name for path in folder.glob("[0-9a-f]*.parquet")} == {
        *journal.read()["segments_part"].to_pylist(),
        foreign.name,
    }
    assert {path: path.read_bytes() for path in others} == others
    with pytest.raises(UsageError, match=part("0")):
        check_others(str(tmp_path), {"segments": table.others()})


def test_a_damaged_file_that_rows_named_before_is_vidpipes(journal: Journal, tmp_path: Path):
    put(tmp_path / "segments", part("a"), part("b"))
    journal.commit([{"video_id": "a", "segments_part": part("a")}])
    journal.commit([{"video_id": "a", "segments_part": part("b")}])
    assert side_table(journal).sweep() == 1
    assert [path.name for path in (tmp_path / "segments").iterdir()] == [part("b")]


def test_features_that_training_keeps_in_the_same_output_stay(journal: Journal, tmp_path: Path):
    folder = tmp_path / "segments"
    kept = TABLE.replace_schema_metadata({"vidpipe.shape": "[1]"})
    put_table(folder / "train-0123456789abcdef.parquet", kept)
    assert side_table(journal, is_asked_for=False).others() == []
    assert side_table(journal).others() == ["train-0123456789abcdef.parquet"]
    assert side_table(journal).sweep() == 0


def test_a_run_file_of_somebodys_is_not_replaced(output: Path):
    commit_rows(output, one=part("a"))
    put(output, "run.json")
    put_table(output.parent / "listed.parquet", pa.table(manifest("one").to_pydict()))
    config = PreprocessConfig(source=str(output.parent / "listed.parquet"), output=str(output), clip=RAW)
    for content in (b"mine", b"[]", b'{"command": "mine"}'):
        (output / "run.json").write_bytes(content)
        with pytest.raises(UsageError, match=r"run\.json was not written by vidpipe.*another --output"):
            preprocess(config)
        assert (output / "run.json").read_bytes() == content


def test_the_test_for_rights_touches_no_file(output: Path):
    others = put(output, ".write_test")
    check_writable(str(output))
    assert files_in(output) == others


def test_files_among_the_claims_hold_nobody_up_and_stay(output: Path):
    others = put(output / "lease", "todo.json", "notes.txt")
    with hold(str(output), "test"):
        pass
    assert files_in(output / "lease") == others
