from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from small_parts import GRAY, JPEG, RAW, VERSIONS, clip, frames_of, receipt, video, write_part
from small_videos import write_generated

from vidpipe.child import encode
from vidpipe.clips import ClipTable, part_urls, read_clips, tensor_column
from vidpipe.decode import open_video
from vidpipe.guard import Clip
from vidpipe.ledger import Ledger
from vidpipe.parts import PartWriter, clips_schema, spec_of
from vidpipe.spec import ClipSpec


def table_of(path: Path) -> ClipTable:
    table = pq.read_table(path)
    return ClipTable(table, spec_of(table.schema))


@pytest.mark.parametrize("spec", [RAW, GRAY], ids=["rgb", "gray"])
def test_raw_frames_come_as_numpy_without_a_copy(spec, tmp_path):
    clips = table_of(write_part(tmp_path / "a.parquet", spec, {"one": 3}))
    frames = clips.numpy()
    assert frames.shape == (3, *spec.shape)
    np.testing.assert_array_equal(frames, [frames_of(spec, number) for number in range(3)])
    buffer = clips.table["frames"].chunk(0).buffers()[1]
    assert frames.ctypes.data == buffer.address
    assert not frames.flags.writeable


def test_a_slice_and_a_joined_table_give_their_own_frames(tmp_path):
    clips = table_of(write_part(tmp_path / "a.parquet", RAW, {"one": 4}))
    part = ClipTable(clips.table.slice(1, 2), RAW)
    np.testing.assert_array_equal(part.numpy(), [frames_of(RAW, 1), frames_of(RAW, 2)])
    joined = ClipTable(pa.concat_tables([clips.table.slice(3), clips.table.slice(0, 2)]), RAW)
    np.testing.assert_array_equal(joined.numpy(), [frames_of(RAW, number) for number in (3, 0, 1)])
    np.testing.assert_array_equal(joined.tensors().to_numpy_ndarray(), joined.numpy())
    filtered = ClipTable(clips.table.filter(pc.equal(clips.table["clip_index"], 2)), RAW)
    np.testing.assert_array_equal(filtered.numpy(), [frames_of(RAW, 2)])


@pytest.mark.parametrize("spec", [RAW, JPEG], ids=["raw", "jpeg"])
def test_tensors_are_the_canonical_arrow_type_with_the_same_values(spec, tmp_path):
    clips = table_of(write_part(tmp_path / "a.parquet", spec, {"one": 3}))
    tensors = clips.tensors()
    assert tensors.type == pa.fixed_shape_tensor(pa.uint8(), spec.shape)
    np.testing.assert_array_equal(tensors.to_numpy_ndarray(), clips.numpy())
    if spec is RAW:
        assert tensors.storage.flatten().buffers()[1].address == clips.table["frames"].chunk(0).buffers()[1].address


@pytest.mark.parametrize("spec", [RAW, JPEG], ids=["raw", "jpeg"])
def test_no_clips_are_an_empty_array(spec):
    schema = clips_schema(spec, VERSIONS)
    for table in (schema.empty_table(), pa.table({name: [] for name in schema.names}, schema)):
        assert ClipTable(table, spec).numpy().shape == (0, *spec.shape)
        assert len(ClipTable(table, spec).tensors()) == 0


@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_jpeg_loses_little(color, tmp_path):
    spec = ClipSpec(size="96x128", color=color, encoding="jpeg")
    path = write_generated(tmp_path / "a.mp4", "h264_mp4")
    with open_video(str(path), spec) as opened:
        frames = np.stack(list(opened.frames(np.arange(16))))
    sizes, payload = encode(frames, spec)
    writer = PartWriter(tmp_path / "a.parquet", clips_schema(spec, VERSIONS))
    writer.add(video("one"), Clip(0, 0.0, 1.0, [0.0] * 16, 0, 0.0, bytes(payload), sizes))
    writer.close([receipt("one", 1)])
    again = table_of(tmp_path / "a.parquet").numpy()
    assert again.shape == (1, *spec.shape)
    psnr = 10 * np.log10(255**2 / np.mean((again[0].astype(float) - frames) ** 2))
    assert psnr > 35
    assert len(payload) < frames.nbytes / 2


@pytest.fixture
def output(tmp_path) -> str:
    """An output folder with two parts of 5 and 2 clips, and a part that no status row names."""
    (tmp_path / "clips").mkdir()
    ledger = Ledger(str(tmp_path), RAW)
    for name, videos in (("a.parquet", {"one": 2, "two": 1, "three": 2}), ("b.parquet", {"four": 2})):
        write_part(tmp_path / "clips" / name, RAW, videos)
        ledger.commit([{**receipt(video_id, num), "part": name} for video_id, num in videos.items()])
    write_part(tmp_path / "clips/c.parquet", RAW, {"five": 2})
    return str(tmp_path)


def test_clips_are_read_row_group_by_row_group_from_the_parts_that_count(output):
    first, second = read_clips(output)
    assert first.spec == RAW
    assert first.table["video_id"].to_pylist() == ["one", "one", "two", "three", "three"]
    assert second.table["video_id"].to_pylist() == ["four", "four"]
    np.testing.assert_array_equal(second.numpy()[1], frames_of(RAW, 1))
    assert part_urls(output) == [f"{output}/clips/a.parquet", f"{output}/clips/b.parquet"]


def test_some_columns_are_read_alone(output):
    first, _ = read_clips(output, columns=["clip_index", "video_id"])
    assert first.table.column_names == ["clip_index", "video_id"]


def test_clips_of_one_split_are_read_alone(output, tmp_path):
    writer = PartWriter(tmp_path / "clips/d.parquet", clips_schema(RAW, VERSIONS))
    splits = {"five": "val", "six": "train", "seven": None}
    for name, split in splits.items():
        writer.add(video(name, split=split), clip(RAW, len(name)))
    writer.close([])
    Ledger(output, RAW).commit(
        [{**receipt(name, 1, split=split), "part": "d.parquet"} for name, split in splits.items()]
    )
    (found,) = read_clips(output, columns=["video_id"], split="val")
    assert found.table.to_pydict() == {"video_id": ["five"]}
    assert list(read_clips(output, split="test")) == []


def test_ray_reads_the_parts_and_turns_frames_into_tensors(output):
    """As `ray.data.read_parquet(part_urls(output)).map_batches(tensor_column(output))` does, without Ray."""
    table = pq.read_table(part_urls(output)[0])
    tensors = tensor_column(output)(table)
    assert tensors.column_names == table.column_names
    frames = tensors["frames"].combine_chunks()
    frames = frames.chunk(0) if isinstance(frames, pa.ChunkedArray) else frames
    np.testing.assert_array_equal(frames.to_numpy_ndarray(), [frames_of(RAW, number) for number in range(5)])


def test_an_output_without_clips_is_refused_with_the_way_out(tmp_path):
    for read in (part_urls, tensor_column, lambda output: list(read_clips(output))):
        with pytest.raises(ValueError, match=r"holds no clips.*jobs/preprocess\.py"):
            read(str(tmp_path))
