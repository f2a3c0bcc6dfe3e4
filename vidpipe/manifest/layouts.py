"""What the places and names of files say about the videos: label, group, split. One function a layout."""

from __future__ import annotations

import logging
import posixpath
import re
from collections import Counter

import pyarrow as pa

from vidpipe.errors import UsageError
from vidpipe.file_errors import given_file
from vidpipe.manifest.schema import build_manifest
from vidpipe.storage import absolute_url, filesystem, storage_errors

logger = logging.getLogger(__name__)

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
HMDB51_TAGS = {"0": "unused", "1": "train", "2": "test"}

# What an official list says of one file name: label, group, split.
_Listed = tuple[str, str, str]


def flat(files: pa.Table) -> pa.Table:
    """Videos without labels."""
    return build_manifest(files)


def folders(files: pa.Table, source: str) -> pa.Table:
    """The label is the first folder below `source`, or the second where the first ones are train, val and test."""
    paths = relative_paths(files, source)
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise UsageError(
            f"{len(loose)} videos lie directly in {source} (first: {loose[0]}), and --layout folders takes the label "
            f"from the folder below it; move them into class folders, or use --layout flat or table"
        )
    parts = [path.split("/") for path in paths]
    if any(part[0].lower() not in SPLIT_FOLDERS for part in parts):
        return build_manifest(files, label=[part[0] for part in parts])
    without_class = [path for path, part in zip(paths, parts, strict=True) if len(part) == 2]
    if without_class:
        raise UsageError(
            f"{len(without_class)} videos in {source} lie in a split folder without a class folder "
            f"(first: {without_class[0]}); move them to train/CLASS/, val/CLASS/ or test/CLASS/, or use --layout table"
        )
    return build_manifest(
        files, label=[part[1] for part in parts], split=[SPLIT_FOLDERS[part[0].lower()] for part in parts]
    )


def ucf101(files: pa.Table, source: str, *, splits_dir: str, fold: int) -> pa.Table:
    """UCF101 by its official lists, matched by file name. Soomro, Zamir and Shah, 2012.

    A group is the 4 to 7 clips cut from one video: `ApplyEyeMakeup_g01`.
    """
    splits_dir = splits_dir.rstrip("/")
    listed: dict[str, _Listed] = {}
    for split in ("train", "test"):
        for line in _read_lines(f"{splits_dir}/{split}list{fold:02d}.txt"):
            label, _, name = line.split()[0].partition("/")
            stem = posixpath.splitext(name)[0]
            group = re.search(r"_(g\d+)_c\d+$", stem)
            if group is None:
                raise UsageError(
                    f"{splits_dir}/{split}list{fold:02d}.txt has the line {line!r}; "
                    "it must read Class/v_Class_g01_c01.avi, as in UCF101's official lists"
                )
            listed[stem] = label, f"{label}_{group[1]}", split
    return _by_official_list(files, source, listed, splits_dir)


def hmdb51(files: pa.Table, source: str, *, splits_dir: str, fold: int) -> pa.Table:
    """HMDB51 by its official lists, matched by file name. Kuehne et al., ICCV 2011.

    Its names end in six fields after the action: body part, motion, cameras, viewpoint, quality, number. What is
    before the action names the source. The official splits part sources within a class only (checked on all three
    folds: a film's clips of one class may be in train and of another in test), so a group is a source of one class.
    """
    splits_dir = splits_dir.rstrip("/")
    ending = f"_test_split{fold}.txt"
    with storage_errors(splits_dir):
        fs, path = filesystem(splits_dir)
        names = sorted(name for name in fs.ls(path, detail=False) if name.endswith(ending))
    if not names:
        raise UsageError(f"{splits_dir} has no file CLASS{ending}; give the folder of HMDB51's official split files")
    listed: dict[str, _Listed] = {}
    for list_name in (posixpath.basename(name) for name in names):
        label = list_name.removesuffix(ending)
        for line in _read_lines(f"{splits_dir}/{list_name}"):
            stem, tag = posixpath.splitext(line.split()[0])[0], line.split()[-1]
            if tag not in HMDB51_TAGS:
                raise UsageError(f"{splits_dir}/{list_name} has the line {line!r}; it must end in 0, 1 or 2")
            name = re.fullmatch(rf"(.+)_{re.escape(label)}(?:_[^_]+){{6}}", stem)
            listed[stem] = label, f"{label}/{name[1] if name else stem}", HMDB51_TAGS[tag]
    return _by_official_list(files, source, listed, splits_dir)


def relative_paths(files: pa.Table, source: str) -> list[str]:
    """The path of each file below `source`; for a source that is one file, its name."""
    root = absolute_url(source).rstrip("/") + "/"
    return [
        url.removeprefix(root) if url.startswith(root) else posixpath.basename(url) for url in files["url"].to_pylist()
    ]


def _read_lines(url: str) -> list[str]:
    with storage_errors(url):
        fs, path = filesystem(url)
        data = fs.cat_file(path)
    with given_file(url, "give the official list as it was published", "is not a text in UTF-8"):
        text = data.decode()
    return [line.strip() for line in text.splitlines() if line.strip()]


def _by_official_list(files: pa.Table, source: str, listed: dict[str, _Listed], splits_dir: str) -> pa.Table:
    """A manifest of the files, with what the lists say of each; warns of each side's files that the other lacks."""
    stems = [posixpath.splitext(posixpath.basename(url))[0] for url in files["url"].to_pylist()]
    strangers = [url for url, stem in zip(files["url"].to_pylist(), stems, strict=True) if stem not in listed]
    if len(strangers) * 2 > len(stems):
        raise UsageError(
            f"{len(strangers)} of {len(stems)} videos in {source} are in no list of {splits_dir} "
            f"(first: {strangers[0]}); check that --layout and --splits-dir are those of this data set"
        )
    if strangers:
        logger.warning(
            "%d videos are in no official list and get no label or split (first: %s)", len(strangers), strangers[0]
        )
    found = set(stems)
    absent = Counter(split for stem, (_, _, split) in listed.items() if stem not in found)
    if absent:
        logger.warning(
            "%d of the %d videos in the official lists are not in %s (%s): figures will not match published ones",
            absent.total(),
            len(listed),
            source,
            ", ".join(f"{count} {split}" for split, count in sorted(absent.items())),
        )
    nothing = (None, None, None)
    label, group, split = zip(*(listed.get(stem, nothing) for stem in stems), strict=True)
    return build_manifest(files, label=list(label), group=list(group), split=list(split))
