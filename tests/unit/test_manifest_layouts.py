from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidpipe.config import IndexConfig
from vidpipe.listing import list_files
from vidpipe.manifest import files_table
from vidpipe.manifest.audit import audit_splits
from vidpipe.manifest.layouts import hmdb51, ucf101
from vidpipe.manifest.make import make_manifest
from vidpipe.storage import MISSING, FileInfo

OFFICIAL_LISTS = Path(__file__).parents[3] / "shared/data/splits"


def write(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return str(folder)


def rows(source: str, **settings) -> dict[str, tuple[str | None, str | None, str | None]]:
    """Label, group and split of each video, by its path below the source."""
    manifest = make_manifest(IndexConfig(source=source, **settings))
    return {
        row["url"].removeprefix(f"{source}/"): (row["label"], row["group"], row["split"])
        for row in manifest.to_pylist()
    }


def test_the_first_folder_is_the_label(tmp_path):
    source = write(tmp_path, "run/a.mp4", "run/day 1/b.mp4", "train/c.mp4", "sit/.x/d.mp4")
    assert rows(source, layout="folders") == {
        "run/a.mp4": ("run", None, None),
        "run/day 1/b.mp4": ("run", None, None),
        "train/c.mp4": ("train", None, None),
    }


def test_split_folders_above_the_class_folders_give_the_splits(tmp_path):
    source = write(tmp_path, "Train/run/a.mp4", "valid/run/b.mp4", "test/sit/deep/c.mp4")
    assert rows(source, layout="folders") == {
        "Train/run/a.mp4": ("run", None, "train"),
        "valid/run/b.mp4": ("run", None, "val"),
        "test/sit/deep/c.mp4": ("sit", None, "test"),
    }


def test_videos_outside_of_class_folders_are_refused(tmp_path):
    source = write(tmp_path, "train/run/a.mp4", "test/b.mp4")
    with pytest.raises(ValueError, match=r"1 videos .* without a class folder \(first: test/b.mp4\)"):
        rows(source, layout="folders")
    write(tmp_path, "c.mp4")
    with pytest.raises(ValueError, match=r"1 videos lie directly in .* \(first: c.mp4\)"):
        rows(source, layout="folders")


def ucf101_lists(folder: Path) -> str:
    (folder / "lists").mkdir()
    for split, group in (("train", "g08"), ("test", "g01")):
        lines = [f"Diving/v_Diving_{group}_c{clip:02d}.avi" + (" 1" if split == "train" else "") for clip in (1, 2)]
        (folder / f"lists/{split}list01.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return f"{folder}/lists"


def test_ucf101_reads_label_group_and_split_from_its_lists(tmp_path, caplog):
    lists = ucf101_lists(tmp_path)
    source = write(
        tmp_path / "ucf", "Diving/v_Diving_g08_c01.avi", "any/where/v_Diving_g01_c02.mp4", "Diving/extra.avi"
    )
    assert rows(source, layout="ucf101", splits_dir=lists) == {
        "Diving/v_Diving_g08_c01.avi": ("Diving", "Diving_g08", "train"),
        "any/where/v_Diving_g01_c02.mp4": ("Diving", "Diving_g01", "test"),
        "Diving/extra.avi": (None, None, None),
    }
    assert "2 of the 4 videos in the official lists are not in" in caplog.text
    assert "(1 test, 1 train)" in caplog.text
    assert "1 videos are in no official list" in caplog.text


def test_official_lists_of_another_data_set_are_refused(tmp_path):
    lists = ucf101_lists(tmp_path)
    source = write(tmp_path / "other", "a.mp4", "b.mp4", "v_Diving_g08_c01.avi")
    with pytest.raises(ValueError, match=r"2 of 3 videos .* are in no list .*--splits-dir"):
        rows(source, layout="ucf101", splits_dir=lists)
    with pytest.raises(ValueError, match=r"trainlist02.txt is not there"):
        rows(source, layout="ucf101", splits_dir=lists, fold=2)
    with pytest.raises(ValueError, match=r"no file CLASS_test_split1.txt"):
        rows(source, layout="hmdb51", splits_dir=lists)


def test_hmdb51_reads_label_source_and_split_from_its_lists(tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "sit_test_split1.txt").write_text(
        "A_film_sit_u_nm_np1_fr_med_0.avi 1 \nA_film_sit_u_nm_np10_fr_med_1.avi 1 \nB!_sit_u_nm_np1_fr_med_0.avi 2 \n"
    )
    (lists / "climb_stairs_test_split1.txt").write_text("A_film_climb_stairs_f_cm_np1_ba_med_0.avi 0 \n")
    (lists / "sit_test_split2.txt").write_text("A_film_sit_u_nm_np1_fr_med_0.avi 2 \n")
    source = write(
        tmp_path / "hmdb",
        "sit/A_film_sit_u_nm_np1_fr_med_0.avi",
        "sit/A_film_sit_u_nm_np10_fr_med_1.avi",
        "sit/B!_sit_u_nm_np1_fr_med_0.avi",
        "climb_stairs/A_film_climb_stairs_f_cm_np1_ba_med_0.avi",
    )
    assert rows(source, layout="hmdb51", splits_dir=f"{lists}/") == {
        "sit/A_film_sit_u_nm_np1_fr_med_0.avi": ("sit", "sit/A_film", "train"),
        "sit/A_film_sit_u_nm_np10_fr_med_1.avi": ("sit", "sit/A_film", "train"),
        "sit/B!_sit_u_nm_np1_fr_med_0.avi": ("sit", "sit/B!", "test"),
        "climb_stairs/A_film_climb_stairs_f_cm_np1_ba_med_0.avi": ("climb_stairs", "climb_stairs/A_film", "unused"),
    }


@pytest.mark.skipif(not OFFICIAL_LISTS.exists(), reason="the official lists are not on this machine")
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_splits_pass_the_audit_with_their_known_sizes(fold):
    names = [
        line.split()[0]
        for kind in ("train", "test")
        for line in (OFFICIAL_LISTS / f"ucf101/{kind}list01.txt").read_text().splitlines()
    ]
    files = files_table(FileInfo(f"s3://b/ucf/{name}", 1, "v") for name in names)
    ucf = ucf101(files, "s3://b/ucf", splits_dir=str(OFFICIAL_LISTS / "ucf101"), fold=fold)
    audit_splits(ucf)
    splits = ucf["split"].to_pylist()
    assert (len(splits), splits.count("test")) == (13_320, {1: 3783, 2: 3734, 3: 3696}[fold])
    assert len(set(ucf["label"].to_pylist())) == 101
    assert len(set(ucf["group"].to_pylist())) == 101 * 25

    names = [
        line.split()[0]
        for path in (OFFICIAL_LISTS / "hmdb51").glob("*_test_split1.txt")
        for line in path.read_text().splitlines()
    ]
    files = files_table(FileInfo(f"/hmdb/{name}", 1, "v") for name in names)
    hmdb = hmdb51(files, "/hmdb", splits_dir=str(OFFICIAL_LISTS / "hmdb51"), fold=fold)
    audit_splits(hmdb)
    splits = hmdb["split"].to_pylist()
    assert (splits.count("train"), splits.count("test"), splits.count("unused")) == (3570, 1530, 1666)


CELLS = [
    {"path": "a b.mp4", "label": "01", "group": "g", "split": "valid"},
    {"path": "sub/c.mp4", "label": "NA", "group": None, "split": None},
    {"path": "gone.mp4", "label": None, "group": None, "split": "test"},
]


def csv_file(path: Path) -> None:
    lines = [",".join(value or "" for value in row.values()) for row in CELLS]
    path.write_text("\n".join(["path,label,group,split", *lines]))


WRITERS = {
    ".csv": csv_file,
    ".jsonl": lambda path: path.write_text("\n".join(json.dumps(row) for row in CELLS)),
    ".parquet": lambda path: pq.write_table(pa.Table.from_pylist(CELLS), path),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_gives_labels_groups_and_splits_and_storage_gives_the_rest(tmp_path, suffix, caplog):
    source = write(tmp_path, "a b.mp4", "sub/c.mp4")
    WRITERS[suffix](tmp_path / f"table{suffix}")
    manifest = make_manifest(IndexConfig(source=f"{tmp_path}/table{suffix}", layout="table"))
    listed = {info.url: info for info in list_files(source, suffixes=frozenset({".mp4"}))}
    assert [(row["url"], row["label"], row["group"], row["split"]) for row in manifest.to_pylist()] == [
        (f"{source}/a b.mp4", "01", "g", "val"),
        (f"{source}/gone.mp4", None, None, "test"),
        (f"{source}/sub/c.mp4", "NA", None, None),
    ]
    assert "1 of the 3 videos" in caplog.text
    for row in manifest.to_pylist():
        info = listed.get(row["url"], FileInfo(row["url"], 0, MISSING))
        assert (row["version"], row["size_bytes"]) == (info.version, info.size_bytes)


def test_a_table_that_gives_version_and_size_needs_no_look_at_the_videos(tmp_path):
    (tmp_path / "t.csv").write_text("url,version,size_bytes,note\ns3://no-such-bucket/a.mp4,abc,7,hello\n")
    row = make_manifest(IndexConfig(source=f"{tmp_path}/t.csv", layout="table")).to_pylist()[0]
    assert (row["url"], row["version"], row["size_bytes"]) == ("s3://no-such-bucket/a.mp4", "abc", 7)


def test_relative_paths_start_at_the_root(tmp_path):
    source = write(tmp_path / "videos", "x/a.mp4")
    (tmp_path / "t.csv").write_text("path\n./x/../x/a.mp4\n")
    config = IndexConfig(source=f"{tmp_path}/t.csv", layout="table", root=source)
    assert make_manifest(config)["url"].to_pylist() == [f"{source}/x/a.mp4"]
    (tmp_path / "t.csv").write_text("path,version,size_bytes\nx/a.mp4,v,1\n")
    config = IndexConfig(source=f"{tmp_path}/t.csv", layout="table", root="s3://bucket/videos/")
    assert make_manifest(config)["url"].to_pylist() == ["s3://bucket/videos/x/a.mp4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.mp4,x\n", "no column url or path .*it has file, label"),
        ("path\na.mp4\nb.mp4\na.mp4\n", "lists 1 videos more than once"),
        ("path,label\na.mp4,x\n,y\n", r"1 rows without path \(first: row 2\)"),
        ("path,split\na.mp4,eval\n", "split 'eval'"),
        ("path,size_bytes\na.mp4,big\n", "cannot be read as .csv"),
        ("path,label\na.mp4,x,y\n", "cannot be read as .csv"),
        ("path\n", "the table has no rows"),
        ("", "cannot be read as .csv"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        make_manifest(IndexConfig(source=f"{tmp_path}/t.csv", layout="table"))


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.csv, \.jsonl"):
        make_manifest(IndexConfig(source=str(tmp_path), layout="table"))
