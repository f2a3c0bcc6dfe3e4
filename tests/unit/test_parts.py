import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_parts import GRAY, JPEG, RAW, VERSIONS, clip, frames_of, jpegs_of, receipt, video, write_part

import vidpipe.parts
from vidpipe.decode import decoder_versions
from vidpipe.guard import Clip
from vidpipe.parts import PartWriter, clips_schema, open_part, part_name, part_receipts, spec_of
from vidpipe.spec import ClipSpec


def ids_and_indices(path: Path) -> list[tuple[str, int]]:
    rows = pq.read_table(path, columns=["video_id", "clip_index"]).to_pylist()
    return [(row["video_id"], row["clip_index"]) for row in rows]


READERS = {
    "pyarrow": lambda path: pq.read_table(path)["frames"].to_pylist(),
    "pandas": lambda path: list(__import__("pandas").read_parquet(path)["frames"]),
    "polars": lambda path: __import__("polars").read_parquet(path)["frames"].to_list(),
    "duckdb": lambda path: [row[0] for row in __import__("duckdb").sql(f"select frames from '{path}'").fetchall()],
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("spec", [RAW, GRAY], ids=["rgb", "gray"])
def test_any_parquet_reader_gets_the_raw_frames(reader, spec, tmp_path):
    path = write_part(tmp_path / "a.parquet", spec, {"one": 2, "two": 1})
    shape = json.loads(pq.read_schema(path).metadata[b"vidpipe"])["shape"]
    rows = READERS[reader](path)
    assert len(rows) == 3
    for number, content in enumerate(rows):
        np.testing.assert_array_equal(np.frombuffer(content, np.uint8).reshape(shape), frames_of(spec, number))


@pytest.mark.parametrize("reader", READERS)
def test_any_parquet_reader_gets_jpeg_images(reader, tmp_path):
    path = write_part(tmp_path / "a.parquet", JPEG, {"one": 2})
    rows = READERS[reader](path)
    assert [list(images) for images in rows] == [jpegs_of(frames_of(JPEG, number)) for number in range(2)]


def test_a_reader_without_vidpipe_gets_the_plain_columns(tmp_path):
    import duckdb
    import polars

    path = write_part(tmp_path / "a.parquet", RAW, {"one": 2, "two": 1})
    counts = duckdb.sql(f"select video_id, count(*) from '{path}' group by all order by all").fetchall()
    assert counts == [("one", 2), ("two", 1)]
    row = polars.read_parquet(path).drop("frames").row(1, named=True)
    assert row == {
        **video("one"),
        "clip_index": 1,
        "start_s": 0.5,
        "end_s": 1.5,
        "frame_pts_s": [0.5, 1.0, 1.25],
        "num_repeated": 1,
        "max_shift_s": 0.0,
    }


def test_a_part_says_what_it_holds(tmp_path):
    path = write_part(tmp_path / "a.parquet", RAW, {"one": 2})
    schema = pq.read_schema(path)
    facts = json.loads(schema.metadata[b"vidpipe"])
    assert facts["shape"] == [3, 12, 20, 3]
    assert facts["layout"] == "THWC uint8, row-major"
    assert facts["decoder"] == VERSIONS
    assert facts["clip_spec"]["size"] == "12x20"
    assert spec_of(schema) == RAW
    assert schema.field("frames").type == pa.binary(3 * 12 * 20 * 3)


def test_a_part_speaks_for_itself_with_its_receipts(tmp_path):
    (tmp_path / "clips").mkdir()
    write_part(tmp_path / "clips/a.parquet", RAW, {"one": 2, "two": 1})
    assert part_receipts(str(tmp_path), "a.parquet", RAW) == [receipt("one", 2), receipt("two", 1)]


@pytest.mark.parametrize("spec", [RAW, JPEG], ids=["raw", "jpeg"])
def test_frames_are_stored_without_dictionary_and_statistics(spec, tmp_path):
    path = write_part(tmp_path / "a.parquet", spec, {"one": 2})
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    frames = columns["frames" if spec is RAW else "frames.list.element"]
    assert frames.compression == ("ZSTD" if spec is RAW else "UNCOMPRESSED")
    assert not frames.has_dictionary_page
    assert frames.statistics is None
    assert columns["video_id"].compression == "ZSTD"
    assert columns["video_id"].statistics.max == "one"


def test_row_groups_stay_below_64_mb(tmp_path):
    spec = ClipSpec(num_frames=16, size="224")  # 2.4 MB a clip
    writer = PartWriter(tmp_path / "a.parquet", clips_schema(spec, VERSIONS))
    for number in range(12):
        payload = np.full(spec.num_bytes_raw, number, np.uint8).tobytes()
        writer.add(video("one"), Clip(number, 0.0, 1.0, [0.0] * 16, 0, 0.0, payload, None))
        assert writer.num_bytes < 64 << 20
    writer.close([receipt("one", 12)])
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert len(sizes) == 4
    assert max(sizes) <= 64 << 20


@pytest.fixture
def two_clips_a_group(monkeypatch) -> None:
    monkeypatch.setattr(vidpipe.parts, "ROW_GROUP_BYTES", 2 * RAW.num_bytes_raw)


@pytest.mark.parametrize("num_bad", [1, 2, 3, 5])
@pytest.mark.parametrize("num_good", [0, 1, 2, 3, 4])
def test_a_video_that_ends_badly_leaves_no_clip_however_much_was_on_disk(
    num_good, num_bad, tmp_path, two_clips_a_group
):
    writer = PartWriter(tmp_path / "a.parquet", clips_schema(RAW, VERSIONS))
    for name, num_clips in (("good", num_good), ("bad", num_bad), ("later", 2), ("bad too", num_bad), ("last", 1)):
        first_row = writer.num_rows
        for clip_index in range(num_clips):
            writer.add(video(name), clip(RAW, len(name), clip_index))
        if name.startswith("bad"):
            writer.drop_back_to(first_row)
    writer.close([receipt("good", num_good), receipt("later", 2), receipt("last", 1)])
    expected = [("good", number) for number in range(num_good)] + [("later", 0), ("later", 1), ("last", 0)]
    assert ids_and_indices(tmp_path / "a.parquet") == expected
    assert writer.num_rows == len(expected)
    metadata = pq.read_metadata(tmp_path / "a.parquet").metadata
    assert [row["video_id"] for row in json.loads(metadata[b"vidpipe.receipts"])] == ["good", "later", "last"]
    assert os.listdir(tmp_path) == ["a.parquet"]


@pytest.mark.parametrize("num_first", [1, 3, 5])
def test_a_video_that_starts_again_comes_once(num_first, tmp_path, two_clips_a_group):
    writer = PartWriter(tmp_path / "a.parquet", clips_schema(RAW, VERSIONS))
    for clip_index in range(num_first):
        writer.add(video("one"), clip(RAW, 1, clip_index))
    writer.drop_back_to(0)
    for clip_index in range(3):
        writer.add(video("one"), clip(RAW, 2, clip_index))
    writer.close([receipt("one", 3)])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["clip_index"].to_pylist() == [0, 1, 2]
    assert table["num_repeated"].to_pylist() == [2, 2, 2]


def test_a_video_that_starts_again_and_then_fails_leaves_no_clip(tmp_path, two_clips_a_group):
    writer = PartWriter(tmp_path / "a.parquet", clips_schema(RAW, VERSIONS))
    writer.add(video("good"), clip(RAW, 0))
    for _ in range(2):
        for clip_index in range(5):
            writer.add(video("bad"), clip(RAW, 1, clip_index))
        writer.drop_back_to(1)
    writer.add(video("later"), clip(RAW, 2))
    writer.close([receipt("good", 1), receipt("later", 1)])
    assert ids_and_indices(tmp_path / "a.parquet") == [("good", 0), ("later", 0)]


def test_a_part_is_named_by_settings_versions_clips_and_labels():
    named = {
        part_name(RAW, [receipt("one", 2)]),
        part_name(GRAY, [receipt("one", 2)]),
        part_name(RAW, [receipt("one", 3)]),
        part_name(RAW, [receipt("one", 2, version="another")]),
        part_name(RAW, [receipt("one", 2, label="right")]),
        part_name(RAW, [receipt("one", 2), receipt("two", 2)]),
        part_name(RAW, [receipt("two", 2), receipt("one", 2)]),
    }
    assert len(named) == 7
    assert part_name(RAW, [receipt("one", 2)]) in named


def test_the_schema_is_what_open_part_writes(tmp_path):
    schema = clips_schema(RAW, decoder_versions("pyav"))
    open_part(tmp_path / "a.parquet", schema).close()
    assert pq.read_schema(tmp_path / "a.parquet").equals(schema)
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == 0
