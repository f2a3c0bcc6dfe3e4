"""Sets of generated videos on disk or in a bucket, in the layouts that people have their data in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np

from vidpipe import storage
from vidpipe.synthetic.encode import ENCODINGS, write_video
from vidpipe.synthetic.motion import MOTIONS, iter_frames


@dataclass(frozen=True, kw_only=True)
class GeneratedVideo:
    """All that decides the bytes of one generated video, and the URL where they belong."""

    url: str
    label: str
    encoding: str
    seed: int
    index: int
    num_frames: int
    height: int
    width: int

    def encoded(self) -> bytes:
        rng = np.random.default_rng([self.seed, self.index])
        frames = iter_frames(self.label, rng, num_frames=self.num_frames, height=self.height, width=self.width)
        file = io.BytesIO()
        write_video(file, frames, encoding=ENCODINGS[self.encoding])
        return file.getvalue()

    def write(self) -> None:
        """Write the video whole, unless it is there already."""
        fs, path = storage.filesystem(self.url)
        if not fs.exists(path):
            _write_whole(self.url, self.encoded())


def _write_whole(url: str, content: bytes) -> None:
    fs, path = storage.filesystem(url)
    folder, _, name = path.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    fs.pipe_file(f"{folder}/.{name}.partial", content)
    fs.mv(f"{folder}/.{name}.partial", path)


def _write_videos(videos: Sequence[GeneratedVideo], num_workers: int) -> None:
    if num_workers == 1:
        for video in videos:
            video.write()
        return
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(GeneratedVideo.write, videos, chunksize=8):
            pass


def generate_folder(
    url: str,
    *,
    num_videos: int,
    seed: int,
    encodings: Sequence[str] = tuple(ENCODINGS),
    num_frames: int = 48,
    height: int = 96,
    width: int = 128,
    num_workers: int = 1,
) -> None:
    """Write `URL/<label>/<label>_00012.mp4`, …, labels and encodings in turn.

    Video 12 depends on the seed, the size and 12, not on how many there are. Videos already there are left alone.
    """
    labels = list(MOTIONS)
    video = partial(GeneratedVideo, seed=seed, num_frames=num_frames, height=height, width=width)
    videos: list[GeneratedVideo] = []
    for index in range(num_videos):
        round_index, label_index = divmod(index, len(labels))
        label = labels[label_index]
        # Each label gets each encoding in turn: the encoding must not give the label away.
        encoding = encodings[(label_index + round_index) % len(encodings)]
        target = f"{url}/{label}/{label}_{index:05d}{ENCODINGS[encoding].suffix}"
        videos.append(video(url=target, label=label, encoding=encoding, index=index))
    _write_videos(videos, num_workers)


def generate_broken(url: str, *, num_videos: int, seed: int) -> None:
    """Write `URL/<label>/broken_00000.mp4`, …: half an MP4 and a text file in turn, to see failures accounted for."""
    video = partial(GeneratedVideo, encoding="h264_mp4", seed=seed, num_frames=48, height=96, width=128)
    for index in range(num_videos):
        label = list(MOTIONS)[index % len(MOTIONS)]
        target = f"{url}/{label}/broken_{index:05d}.mp4"
        whole = video(url=target, label=label, index=index).encoded()
        _write_whole(target, b"This is not a video.\n" if index % 2 else whole[: len(whole) // 2])


def generate_ucf101(
    url: str,
    *,
    num_groups: int,
    clips_per_group: int,
    seed: int,
    num_frames: int = 48,
    height: int = 96,
    width: int = 128,
    num_workers: int = 1,
) -> None:
    """Write a set with UCF101's names: `URL/UCF-101/Left/v_Left_g01_c01.avi` and `URL/ucfTrainTestlist/*.txt`.

    Each of the three folds tests on a third of the groups of each class.
    """
    classes = {label.capitalize(): label for label in sorted(MOTIONS)}
    video = partial(
        GeneratedVideo, encoding="mpeg4_bframes_avi", seed=seed, num_frames=num_frames, height=height, width=width
    )
    videos: list[GeneratedVideo] = []
    names: dict[int, list[tuple[int, str]]] = {group: [] for group in range(1, num_groups + 1)}
    for class_index, (name, label) in enumerate(classes.items(), start=1):
        for group in names:
            for clip in range(1, clips_per_group + 1):
                path = f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"
                names[group].append((class_index, path))
                videos.append(video(url=f"{url}/UCF-101/{path}", label=label, index=len(videos)))
    _write_videos(videos, num_workers)
    lists = {"classInd": [f"{class_index} {name}" for class_index, name in enumerate(classes, start=1)]}
    for fold, test_groups in enumerate(np.array_split(list(names), 3), start=1):
        train = [one for group in names if group not in test_groups for one in names[group]]
        test = [one for group in names if group in test_groups for one in names[group]]
        lists[f"trainlist{fold:02d}"] = [f"{path} {class_index}" for class_index, path in sorted(train)]
        lists[f"testlist{fold:02d}"] = [path for _, path in sorted(test)]
    for list_name, lines in lists.items():
        _write_whole(f"{url}/ucfTrainTestlist/{list_name}.txt", "".join(f"{line}\n" for line in lines).encode())


HMDB51_TAGS = (1, 1, 2, 1, 0)  # train, train, test, train, unused: in turn, each fold starts one later


def generate_hmdb51(
    url: str,
    *,
    videos_per_class: int,
    seed: int,
    num_frames: int = 48,
    height: int = 96,
    width: int = 128,
    num_workers: int = 1,
) -> None:
    """Write a set with HMDB51's names: `URL/left/made_00_left_f_cm_np1_fr_med_0.avi`, …

    and `URL/testTrainMulti_7030_splits/left_test_split1.txt`, … where 1 is train, 2 test and 0 unused.
    """
    video = partial(GeneratedVideo, encoding="mpeg4_avi", seed=seed, num_frames=num_frames, height=height, width=width)
    videos: list[GeneratedVideo] = []
    lists: dict[str, str] = {}
    for label in sorted(MOTIONS):
        names = [f"made_{number:02d}_{label}_f_cm_np1_fr_med_0.avi" for number in range(videos_per_class)]
        for name in names:
            videos.append(video(url=f"{url}/{label}/{name}", label=label, index=len(videos)))
        for fold in (1, 2, 3):
            # The official lists end each line with a space.
            lists[f"{label}_test_split{fold}"] = "".join(
                f"{name} {HMDB51_TAGS[(number + fold) % len(HMDB51_TAGS)]} \n" for number, name in enumerate(names)
            )
    _write_videos(videos, num_workers)
    for list_name, text in lists.items():
        _write_whole(f"{url}/testTrainMulti_7030_splits/{list_name}.txt", text.encode())
