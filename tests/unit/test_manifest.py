from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vidpipe.manifest.schema
from vidpipe.config import VIDEO_SUFFIXES, IndexConfig, Layout
from vidpipe.manifest import MANIFEST_SCHEMA, files_table, read_manifest, video_id, write_manifest
from vidpipe.manifest.make import LAYOUTS, make_manifest
from vidpipe.manifest.schema import build_manifest
from vidpipe.stages.index import index_videos, manifest_summary
from vidpipe.storage import FileInfo


def videos(*urls: str) -> pa.Table:
    return build_manifest(files_table(FileInfo(url, 1, "v1") for url in urls))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_a_video_id_is_a_stable_hash_of_the_url():
    assert video_id("s3://b/ü.mp4") == blake2b("s3://b/ü.mp4".encode(), digest_size=12).hexdigest()
    assert len(video_id("a")) == 24


@pytest.mark.parametrize("place", ["{tmp}/new folder/m.parquet", "memory://manifests/m.parquet"])
def test_a_written_manifest_reads_back_the_same(tmp_path, place):
    url = place.format(tmp=tmp_path)
    manifest = videos("/x/a\n.mp4", "s3://b/#ü?.mp4")
    write_manifest(manifest, url)
    assert read_manifest(url).equals(manifest)
    assert read_manifest(url).schema.equals(MANIFEST_SCHEMA)


def test_writing_a_manifest_leaves_no_other_file_behind(tmp_path):
    for _ in range(2):
        write_manifest(videos("a"), f"{tmp_path}/m.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_optional_columns_that_are_absent_are_read_as_empty(tmp_path):
    pq.write_table(videos("a", "b").select(["video_id", "url", "version", "size_bytes"]), tmp_path / "m.parquet")
    assert read_manifest(f"{tmp_path}/m.parquet").equals(videos("a", "b"))


def test_other_columns_are_left_out(tmp_path):
    pq.write_table(videos("a").append_column("note", [["x"]]), tmp_path / "m.parquet")
    assert read_manifest(f"{tmp_path}/m.parquet").equals(videos("a"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda table: table.drop_columns(["version", "size_bytes"]), "no column version, size_bytes .*layout table"),
        (lambda table: pa.concat_tables([table, table.slice(1, 1)]), r"lists 1 videos more than once \(first: b\)"),
        (lambda table: table.set_column(2, "version", [["v", None]]), "1 videos without version"),
        (lambda table: table.set_column(6, "split", [["train", "dev"]]), "split 'dev'; a split is one of train"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_what_it_lacks(tmp_path, spoil, message):
    table = videos("a", "b").cast(pa.schema([field.with_nullable(True) for field in MANIFEST_SCHEMA]))
    pq.write_table(spoil(table), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match=message):
        read_manifest(f"{tmp_path}/m.parquet")


def test_a_manifest_that_is_not_parquet_or_not_there_says_so(tmp_path):
    write(tmp_path, "m.parquet")
    with pytest.raises(ValueError, match="not a Parquet file"):
        read_manifest(f"{tmp_path}/m.parquet")
    with pytest.raises(ValueError, match="is not there"):
        read_manifest(f"{tmp_path}/n.parquet")


def test_more_text_than_arrow_sorts_in_one_piece_is_refused_with_the_way_out(tmp_path, monkeypatch):
    listed = [FileInfo(f"/videos/{name}.mp4", 1, "1") for name in "abc"]
    write_manifest(build_manifest(files_table(listed)), str(tmp_path / "manifest.parquet"))
    num_bytes = sum(len(file.url) for file in listed)
    monkeypatch.setattr(vidpipe.manifest.schema, "MAX_COLUMN_BYTES", 3 * 24)  # their ids
    assert num_bytes < 3 * 24
    assert len(files_table(listed)) == len(read_manifest(str(tmp_path / "manifest.parquet"))) == 3
    monkeypatch.setattr(vidpipe.manifest.schema, "MAX_COLUMN_BYTES", num_bytes - 1)
    for make in (lambda: files_table(listed), lambda: read_manifest(str(tmp_path / "manifest.parquet"))):
        with pytest.raises(ValueError, match=r"3 videos.*of url.*one run takes.*an output of its own"):
            make()


def test_every_layout_of_the_settings_has_its_function():
    assert set(LAYOUTS) == set(Layout.__args__)


def test_a_manifest_is_the_same_each_time_and_in_order_of_url(tmp_path):
    write(tmp_path, *[f"f{index % 9}/{index}.mkv" for index in range(200)])
    manifest = make_manifest(IndexConfig(source=str(tmp_path)))
    assert manifest.equals(make_manifest(IndexConfig(source=f"{tmp_path}/")))
    assert manifest["url"].to_pylist() == sorted(manifest["url"].to_pylist())


def test_the_usual_video_suffixes_are_found_in_any_case(tmp_path):
    write(tmp_path, *[f"a{suffix}" for suffix in VIDEO_SUFFIXES], "B.MP4", "c.jpg", "d")
    assert len(make_manifest(IndexConfig(source=str(tmp_path)))) == len(VIDEO_SUFFIXES) + 1


def test_a_source_without_videos_tells_what_was_looked_for_and_seen(tmp_path):
    write(tmp_path, "a.txt", "b/c.jpg")
    with pytest.raises(ValueError, match=r"no videos in .*: 2 files seen, none ends in \.mp4 .*--suffixes"):
        make_manifest(IndexConfig(source=str(tmp_path)))


def test_a_limit_keeps_a_repeatable_sample_of_all_folders(tmp_path):
    write(tmp_path, *[f"class{index % 4}/{index}.mp4" for index in range(400)])
    config = IndexConfig(source=str(tmp_path), layout="folders", limit=40)
    assert len(make_manifest(config)) == 40
    assert set(make_manifest(config)["label"].to_pylist()) == {f"class{index}" for index in range(4)}
    assert make_manifest(config).equals(make_manifest(config))


def test_the_index_stage_writes_the_manifest_that_it_returns(tmp_path, caplog):
    write(tmp_path, *[f"videos/{label}/{index}.mp4" for label in "ab" for index in range(20)])
    config = IndexConfig(
        source=f"{tmp_path}/videos",
        output=f"{tmp_path}/m.parquet",
        layout="folders",
        val_fraction=0.1,
        test_fraction=0.2,
    )
    with caplog.at_level("INFO", "vidpipe"):
        manifest = index_videos(config)
    assert manifest.equals(read_manifest(config.output))
    assert "next: jobs/preprocess.py" in caplog.text
    rows = {line.split()[0]: line.split() for line in manifest_summary(manifest)[1:]}
    assert {name: row[1] for name, row in rows.items()} == {"all": "40", "train": "28", "val": "4", "test": "8"}


def test_a_flat_index_of_folders_hints_at_the_other_layout(tmp_path, caplog):
    write(tmp_path, "a/1.mp4", "b/2.mp4")
    with caplog.at_level("INFO", "vidpipe"):
        make_manifest(IndexConfig(source=str(tmp_path)))
    assert "--layout folders" in caplog.text


def test_val_is_taken_from_train_where_the_layout_comes_with_splits(tmp_path):
    names = [f"{split}/{label}/{index}.mp4" for split in ("train", "test") for label in "ab" for index in range(20)]
    write(tmp_path, *names)
    manifest = make_manifest(IndexConfig(source=str(tmp_path), layout="folders", val_fraction=0.1))
    splits = manifest["split"].to_pylist()
    assert {split: splits.count(split) for split in set(splits)} == {"train": 36, "val": 4, "test": 40}
    with pytest.raises(ValueError, match=r"comes with the splits test, train.*leave out --test-fraction"):
        make_manifest(IndexConfig(source=str(tmp_path), layout="folders", test_fraction=0.1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layout": "ucf101"}, "--splits-dir"),
        ({"splits_dir": "x"}, "splits_dir is for the layouts"),
        ({"layout": "hmdb51", "splits_dir": "x", "fold": 4}, "fold must be 1, 2 or 3, got 4"),
        ({"fold": 2}, "fold is for the layouts"),
        ({"root": "x"}, "root is for the layout table"),
        ({"val_fraction": 1.0}, "val_fraction must be at least 0 and below 1, got 1.0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave nothing for train"),
        ({"suffixes": ("mp4",)}, "start with a dot, such as .mp4, got mp4"),
        ({"suffixes": ()}, "got none"),
        ({"output": "m.csv"}, "must end in .parquet"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IndexConfig(source="x", **settings)
