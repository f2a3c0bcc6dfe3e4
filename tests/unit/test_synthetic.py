import io
import os
import re
from pathlib import Path

import av
import numpy as np
import pytest

from vidpipe.synthetic import (
    ENCODINGS,
    MOTIONS,
    generate_folder,
    generate_hmdb51,
    generate_ucf101,
    render,
    write_video,
)

SIZE = {"num_frames": 24, "height": 64, "width": 80}
OPPOSITES = [("left", "right"), ("up", "down"), ("clockwise", "counterclockwise"), ("grow", "shrink")]


def rendered(label: str, seed: int, num_frames: int = 24) -> np.ndarray:
    return render(label, np.random.default_rng(seed), **{**SIZE, "num_frames": num_frames})


def decoded(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def shape_statistics(frames: np.ndarray) -> np.ndarray:
    """Centroid x, centroid y and area of the bright shape, (T, 3); y and x as shares of the picture."""
    bright = frames.min(axis=-1) > 140
    _, height, width = bright.shape
    area = bright.sum(axis=(1, 2))
    x = (bright.sum(axis=1) * np.arange(width)).sum(axis=1) / area
    y = (bright.sum(axis=2) * np.arange(height)).sum(axis=1) / area
    return np.stack([x / width, y / height, area / (height * width)], axis=1)


@pytest.fixture(scope="module")
def statistics() -> dict[str, np.ndarray]:
    """Statistics of 200 videos a label, (200, 10, 3); no two videos show the same scene."""
    return {
        label: np.stack([shape_statistics(rendered(label, 1000 * row + seed, num_frames=10)) for seed in range(200)])
        for row, label in enumerate(MOTIONS)
    }


def test_a_single_frame_does_not_tell_the_label(statistics):
    rng = np.random.default_rng(0)
    single = {label: of[np.arange(200), rng.integers(10, size=200)] for label, of in statistics.items()}
    pooled = np.concatenate(list(single.values()))
    standard_error = pooled.std(axis=0) / np.sqrt(200)
    for label, of in single.items():
        assert (abs(of.mean(axis=0) - pooled.mean(axis=0)) < 4 * standard_error).all(), label
        assert (abs(of.std(axis=0) / pooled.std(axis=0) - 1) < 0.25).all(), label


def test_differences_between_frames_tell_the_label(statistics):
    for label, column, sign in [
        ("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1), ("grow", 2, 1), ("shrink", 2, -1),
    ]:  # fmt: skip
        change = statistics[label][:, -1] - statistics[label][:, 0]
        assert (np.sign(change[:, column]) == sign).all(), label


def test_the_dark_mark_turns_clockwise_when_the_label_says_so():
    for label, sign in [("clockwise", 1), ("counterclockwise", -1)]:
        for seed in range(20):
            frames = rendered(label, seed)
            xs = np.arange(frames.shape[2])
            # Only what changes over time belongs to the turning shape: its mark is the darkest of it.
            mark = (frames.max(axis=-1) < 12) & (np.ptp(frames.max(axis=-1).astype(int), axis=0) > 100)
            x = (mark.sum(axis=1) * xs).sum(axis=1) / mark.sum(axis=(1, 2))
            assert np.sign(x[-1] - x[0]) == sign, (label, seed)  # it is the upper half


@pytest.mark.parametrize(("label", "opposite"), OPPOSITES)
def test_a_video_played_backwards_is_the_opposite_label(label, opposite):
    for seed in range(5):
        assert (rendered(label, seed)[::-1] == rendered(opposite, seed)).all()


def test_the_videos_of_all_labels_from_one_seed_have_a_frame_in_common():
    for seed in range(5):
        frames = [{frame.tobytes() for frame in rendered(label, seed)} for label in MOTIONS]
        assert set.intersection(*frames)


def test_the_shape_stays_in_view():
    for label in MOTIONS:
        for seed in range(20):
            frames = rendered(label, seed)
            changed = np.ptp(frames.astype(int), axis=0).max(axis=-1) > 0
            assert changed.any()
            bright = frames.min(axis=-1) > 140
            assert not bright[:, [0, -1]].any()
            assert not bright[:, :, [0, -1]].any()


def test_other_seeds_give_other_scenes():
    assert (rendered("left", 0) != rendered("left", 1)).mean() > 0.5


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_gives_back_the_frames_it_was_given(name):
    frames = rendered("right", 0)
    file = io.BytesIO()
    write_video(file, frames, encoding=ENCODINGS[name])
    back = decoded(file.getvalue())
    assert back.shape == frames.shape
    crossed = np.ptp(frames.astype(int), axis=0).max(axis=-1) > 60  # (H, W): where the shape comes by
    assert abs(back.astype(int) - frames)[:, crossed].mean() < 8
    with av.open(io.BytesIO(file.getvalue())) as container:
        assert container.streams.video[0].average_rate == 25


def test_the_encodings_cover_codecs_containers_and_bframes():
    assert len({encoding.codec for encoding in ENCODINGS.values()}) >= 6
    assert len({encoding.suffix for encoding in ENCODINGS.values()}) >= 4
    for name in ["h264_mp4", "mpeg4_bframes_avi", "mpeg2_ts"]:
        file = io.BytesIO()
        write_video(file, rendered("right", 0), encoding=ENCODINGS[name])
        with av.open(io.BytesIO(file.getvalue())) as container:
            assert any(frame.pict_type == av.video.frame.PictureType.B for frame in container.decode(video=0)), name


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_folder_holds_a_folder_a_label_and_mixes_encodings_within_each(tmp_path):
    generate_folder(str(tmp_path), num_videos=24, seed=0, encodings=["h264_mp4", "mpeg4_avi", "mjpeg_mov"], **SIZE)
    names = list(contents(tmp_path))
    assert len(names) == 24
    for label in MOTIONS:
        files = [name for name in names if re.fullmatch(rf"{label}/{label}_\d{{5}}\.(mp4|avi|mov)", name)]
        assert {name[-4:] for name in files} == {".mp4", ".avi", ".mov"}


def test_a_video_depends_on_the_seed_and_its_number_only(tmp_path):
    for name, num_videos, seed, num_workers in [("few", 8, 0, 1), ("many", 16, 0, 2), ("other", 8, 1, 1)]:
        generate_folder(
            str(tmp_path / name),
            num_videos=num_videos,
            seed=seed,
            encodings=["h264_mp4", "vp9_webm"],
            num_workers=num_workers,
            **SIZE,
        )
    few, many, other = (contents(tmp_path / name) for name in ("few", "many", "other"))
    assert len(many) == 16
    assert few.items() <= many.items()
    assert few.keys() == other.keys()
    assert not set(few.values()) & set(other.values())


def test_a_rerun_leaves_videos_alone_and_writes_the_missing_ones(tmp_path):
    arguments = {"num_videos": 4, "seed": 0, "encodings": ["h264_mp4"], **SIZE}
    generate_folder(str(tmp_path), **arguments)
    before = contents(tmp_path)
    (tmp_path / "left/left_00000.mp4").write_bytes(b"mine")
    (tmp_path / "up/up_00002.mp4").unlink()
    generate_folder(str(tmp_path), **arguments)
    assert contents(tmp_path) == {**before, "left/left_00000.mp4": b"mine"}


def test_ucf101_lists_keep_each_group_on_one_side(tmp_path):
    generate_ucf101(str(tmp_path), num_groups=4, clips_per_group=2, seed=0, **SIZE)
    videos = {path.removeprefix("UCF-101/") for path in contents(tmp_path) if path.endswith(".avi")}
    assert len(videos) == 8 * 4 * 2
    assert "Left/v_Left_g01_c02.avi" in videos
    classes = dict(line.split()[::-1] for line in (tmp_path / "ucfTrainTestlist/classInd.txt").read_text().splitlines())
    assert list(classes.values()) == [str(number) for number in range(1, 9)]
    tested = []
    for fold in ("01", "02", "03"):
        train = [line.split() for line in (tmp_path / f"ucfTrainTestlist/trainlist{fold}.txt").read_text().splitlines()]
        test = (tmp_path / f"ucfTrainTestlist/testlist{fold}.txt").read_text().splitlines()
        assert all(classes[path.split("/")[0]] == number for path, number in train)
        assert sorted([path for path, _ in train] + test) == sorted(videos)
        groups = [{path.split("_c")[0] for path in paths} for paths in ([path for path, _ in train], test)]
        assert not groups[0] & groups[1]
        tested += test
    assert sorted(tested) == sorted(videos)


def test_hmdb51_splits_tag_every_video_of_a_class(tmp_path):
    generate_hmdb51(str(tmp_path), videos_per_class=5, seed=0, **SIZE)
    for label in MOTIONS:
        videos = sorted(path.name for path in (tmp_path / label).iterdir())
        assert len(videos) == 5
        for fold in (1, 2, 3):
            text = (tmp_path / f"testTrainMulti_7030_splits/{label}_test_split{fold}.txt").read_text()
            tags = dict(line.split() for line in text.splitlines())
            assert sorted(tags) == videos
            assert sorted(tags.values()) == ["0", "1", "1", "1", "2"]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="needs Linux's schedulers")
def test_av1_leaves_the_process_as_it_was(tmp_path: Path):
    """SVT-AV1 makes a process of root's real-time, and its children with it: tests hung, each waiting for the other."""
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, encoding=ENCODINGS["av1_mp4"])
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
