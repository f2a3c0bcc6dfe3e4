"""Index and preprocess against a real S3 server: the same rows as from local files, odd names, and every refusal."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from running import S3Server, run_job

from vidpipe.clips import read_clips
from vidpipe.config import IndexConfig, PreprocessConfig
from vidpipe.spec import ClipSpec
from vidpipe.stages.index import index_videos
from vidpipe.stages.preprocess import preprocess

SPEC = ClipSpec(size="32", num_frames=4)
REASONABLE_S = 20.0


@pytest.fixture(scope="module")
def bucket(s3: S3Server, twenty_videos: Path) -> str:
    """A bucket with the 20 videos below `videos/`."""
    url = s3.make_bucket()
    s3fs.S3FileSystem().put(str(twenty_videos), f"{url}/videos", recursive=True)
    return url


def run_stage(source: str, output: str, **settings: Any) -> dict[str, Any]:
    """Run preprocess; what run.json says."""
    preprocess(PreprocessConfig(source=source, output=output, clip=SPEC, **settings))
    return json.loads(s3fs.S3FileSystem().cat(f"{output}/run.json"))


def status_of(output: str) -> dict[str, dict[str, Any]]:
    rows = pandas.read_parquet(output + "/status").to_dict("records")
    by_url = {row["url"]: row for row in rows}
    assert len(by_url) == len(rows), "a video has more than one status row"
    return by_url


def frames_by_path(output: str, root: str) -> dict[str, list[bytes]]:
    """The clips of each video by its path below `root`."""
    found: dict[str, list[bytes]] = {}
    for clips in read_clips(output):
        for url, frames in zip(clips.table["url"].to_pylist(), clips.table["frames"].to_pylist(), strict=True):
            found.setdefault(url.removeprefix(root), []).append(frames)
    return found


@pytest.mark.usefixtures("ray_local")
def test_a_bucket_gives_the_same_clips_as_a_folder(bucket: str, twenty_videos: Path, tmp_path: Path):
    out = f"{bucket}/out"
    assert run_stage(f"{bucket}/videos", out, layout="folders")["counts"]["ok"] == 20
    preprocess(PreprocessConfig(source=str(twenty_videos), output=str(tmp_path / "out"), clip=SPEC, layout="folders"))
    local = frames_by_path(str(tmp_path / "out"), f"{twenty_videos}/")
    assert len(local) == 20
    assert frames_by_path(out, f"{bucket}/videos/") == local
    remote_status, local_status = status_of(out), status_of(str(tmp_path / "out"))
    for path in local:
        remote, here = remote_status[f"{bucket}/videos/{path}"], local_status[f"{twenty_videos}/{path}"]
        same = ("status", "label", "num_clips", "duration_s", "width", "height", "codec", "bytes_read")
        assert [remote[name] for name in same] == [here[name] for name in same]
    counts = run_stage(f"{bucket}/videos", out, layout="folders")["counts"]
    assert counts == {"videos": 20, "ok": 0, "failed": 0, "unchanged": 20, "remaining": 0}


@pytest.mark.usefixtures("ray_local")
def test_an_output_within_its_source_beside_files_of_others(s3: S3Server, twenty_videos: Path, tmp_path: Path, caplog):
    """A bucket is labelled into itself, other programs leave their marks in it, and somebody drops a video there."""
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    one, other = sorted(path for path in twenty_videos.rglob("*") if path.suffix == ".mp4")[:2]
    fs.put(str(one), f"{bucket}/one.mp4")
    out = f"{bucket}/out"
    assert run_stage(bucket, out)["counts"]["ok"] == 1
    others = [f"{out}/clips/{name}" for name in ("_SUCCESS", "notes.txt", "sub/notes.txt")]
    for url in others:
        fs.pipe_file(url, b"mine")
    for marker in (f"{out}/clips/", f"{out}/status/", f"{out}/clips/sub/"):  # as consoles make "folders"
        fs.call_s3("put_object", Bucket=bucket.removeprefix("s3://"), Key=marker.removeprefix(f"{bucket}/"), Body=b"")
    fs.put(str(other), f"{bucket}/other.mp4")
    counts = {"videos": 2, "ok": 1, "failed": 0, "unchanged": 1, "remaining": 0}
    assert run_stage(f"{bucket}/", f"{out}/")["counts"] == counts
    [warning] = [message for message in caplog.messages if "did not write" in message]
    assert "(clips/_SUCCESS, clips/notes.txt, clips/sub/)" in warning
    assert [fs.cat(url) for url in others] == [b"mine"] * 3
    assert len(status_of(out)) == 2

    fs.put(str(other), f"{out}/clips/deep/Down.MP4")
    for source in (bucket, f"{out}/clips", f"{out}/clips/deep/Down.MP4"):
        with pytest.raises(
            ValueError, match=r"Down\.MP4 lies in s3://.*/out/clips/, where .* keeps its clips; give an --output"
        ):
            run_stage(source, out)
    fs.rm(f"{out}/clips/deep/Down.MP4")
    pq.write_table(pa.table({"video_id": ["mine"]}), tmp_path / "mine.parquet")
    fs.put(str(tmp_path / "mine.parquet"), f"{out}/clips/sub/mine.parquet")
    with pytest.raises(ValueError, match=r"sub/mine\.parquet is no file of the table"):
        run_stage(bucket, out)
    assert fs.exists(f"{out}/clips/sub/mine.parquet")


@pytest.mark.usefixtures("ray_local")
def test_a_replaced_object_is_decoded_again(s3: S3Server, twenty_videos: Path):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    one, other = sorted(path for path in twenty_videos.rglob("*") if path.suffix == ".mp4")[:2]
    for path in (one, other):
        fs.put_file(str(path), f"{bucket}/in/{path.name}")
    run_stage(f"{bucket}/in", f"{bucket}/out")
    fs.put_file(str(other), f"{bucket}/in/{one.name}")
    assert run_stage(f"{bucket}/in", f"{bucket}/out")["counts"]["ok"] == 1
    clips = frames_by_path(f"{bucket}/out", f"{bucket}/in/")
    assert clips[one.name] == clips[other.name]
    parts = [pq.read_table(path, filesystem=fs) for path in fs.ls(f"{bucket}/out/clips")]
    assert pa.concat_tables(parts).num_rows == 2  # a reader that knows nothing of the ledger


@pytest.mark.usefixtures("ray_local")
def test_any_name_that_s3_allows_is_read(s3: S3Server, twenty_videos: Path):
    bucket = s3.make_bucket()
    names = [
        "a b.mp4",
        "50%25.mp4",
        "#1.mp4",
        "x+y.mp4",
        "żółw 🐢.mp4",
        "what?.mp4",
        "a&b=c.mp4",
        "it's [1].mp4",
        "a::b.mp4",
    ]
    content = min((twenty_videos / "left").glob("*.mp4")).read_bytes()
    for name in names:
        s3fs.S3FileSystem().pipe_file(f"{bucket}/in/{name}", content)
    s3fs.S3FileSystem().pipe_file(f"{bucket}/in/100 % #+é/clip.mp4", content)
    names.append("100 % #+é/clip.mp4")
    run = run_stage(f"{bucket}/in", f"{bucket}/out #1")
    assert run["counts"]["ok"] == len(names)
    assert status_of_s3(f"{bucket}/out #1").keys() == {f"{bucket}/in/{name}" for name in names}
    table = "path\n" + "".join(f"in/{name}\n" for name in names)
    s3fs.S3FileSystem().pipe_file(f"{bucket}/videos.csv", table.encode())
    assert run_stage(f"{bucket}/videos.csv", f"{bucket}/out #1")["counts"]["unchanged"] == len(names)


def status_of_s3(output: str) -> dict[str, str]:
    """`status_of` for a name that pandas would take for a URL with a fragment."""
    fs = s3fs.S3FileSystem()
    tables = [pq.read_table(path, filesystem=fs) for path in fs.ls(f"{output}/status")]
    rows = pa.concat_tables(tables).to_pylist()
    return {row["url"]: row["status"] for row in rows}


@pytest.mark.usefixtures("ray_local")
def test_an_object_deleted_after_indexing_fails_as_not_found(s3: S3Server, twenty_videos: Path):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    fs.put(str(twenty_videos / "left"), f"{bucket}/in", recursive=True)
    manifest = index_videos(IndexConfig(source=f"{bucket}/in", output=f"{bucket}/manifest.parquet"))
    gone = manifest["url"][0].as_py()
    fs.rm_file(gone)
    run = run_stage(f"{bucket}/manifest.parquet", f"{bucket}/out")
    assert run["counts"]["ok"] == len(manifest) - 1
    assert run["failed_by_code"] == {"not_found": 1}
    assert status_of(f"{bucket}/out")[gone]["error_code"] == "not_found"


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_in_the_bucket_lists_videos_beside_it(suffix: str, bucket: str, twenty_videos: Path):
    paths = sorted(str(path.relative_to(twenty_videos)) for path in (twenty_videos / "up").iterdir())
    table = pandas.DataFrame({"path": [f"videos/{path}" for path in paths], "label": "up", "split": "train"})
    url = f"{bucket}/up{suffix}"
    if suffix == ".csv":
        table.to_csv(url, index=False)
    elif suffix == ".jsonl":
        table.to_json(url, orient="records", lines=True)
    else:
        table.to_parquet(url)
    out = f"{bucket}/up-{suffix[1:]}"
    assert run_stage(url, out)["counts"]["ok"] == len(paths)
    status = status_of(out)
    assert {row["label"] for row in status.values()} == {"up"}
    assert status.keys() == {f"{bucket}/videos/{path}" for path in paths}


def test_a_listing_of_more_than_a_page_is_complete(s3: S3Server):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    names = {f"{bucket}/flat/{number:04d}.mp4" for number in range(1_050)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: fs.pipe_file(name, b"x"), names))
    manifest = index_videos(IndexConfig(source=f"{bucket}/flat", output=f"{bucket}/manifest.parquet"))
    assert set(manifest["url"].to_pylist()) == names
    assert len(manifest) == len(names)
    assert pq.read_table(f"{bucket}/manifest.parquet".removeprefix("s3://"), filesystem=fs).equals(manifest)


NO_KEYS = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "HOME": "/nonexistent"}


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuses access"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses access"),
        (NO_KEYS, "needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "needs credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"AWS_ENDPOINT_URL": "127.0.0.1:1"}, "write AWS_ENDPOINT_URL as http://host:port"),
    ],
    ids=["wrong secret", "unknown key", "no keys", "unknown profile", "endpoint down", "endpoint misspelt"],
)
@pytest.mark.parametrize("job", ["index", "preprocess"])
def test_storage_that_cannot_be_used_ends_the_job_before_any_work(
    job: str, env: dict[str, str | None], message: str, bucket: str, tmp_path: Path
):
    output = tmp_path / "out.parquet" if job == "index" else tmp_path / "out"
    start_s = time.monotonic()
    done = run_job(job, f"{bucket}/videos", "--output", output, env={"RAY_ADDRESS": "127.0.0.1:1", **env})
    check_refused(done, message)
    assert time.monotonic() - start_s < REASONABLE_S
    assert not output.exists()


def check_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 3


@pytest.mark.parametrize("source", ["s3://no-such-bucket/videos", "s3://no-such-bucket", "s3://no-such-bucket/m.csv"])
def test_a_bucket_that_is_not_there_is_named(source: str, bucket: str):
    check_refused(run_job("preprocess", source, "--output", f"{bucket}/none"), f"{source} is not there")


def test_a_prefix_without_videos_is_named(bucket: str):
    s3fs.S3FileSystem().pipe_file(f"{bucket}/text/a.txt", b"a")
    done = run_job("preprocess", f"{bucket}/text", "--output", f"{bucket}/none")
    check_refused(done, f"no videos in {bucket}/text")


@pytest.mark.parametrize("output", ["s3://no-such-bucket/out", "{bucket}/out"])
def test_an_output_that_cannot_be_written_ends_the_job_before_any_work(output: str, s3: S3Server, twenty_videos: Path):
    url = output.format(bucket=s3.make_bucket())
    env = s3.reader_env if "no-such" not in url else {}
    done = run_job("preprocess", twenty_videos, "--output", url, env={"RAY_ADDRESS": "127.0.0.1:1", **env})
    check_refused(done, url)
    assert "is not there" in done.stderr or "for an output to write and delete" in done.stderr


def test_a_manifest_that_cannot_be_written_is_an_error_of_the_command(s3: S3Server, twenty_videos: Path):
    url = f"{s3.make_bucket()}/manifest.parquet"
    check_refused(run_job("index", twenty_videos, "--output", url, env=dict(s3.reader_env)), url)


def test_the_endpoint_may_come_from_a_profile(s3: S3Server, bucket: str, tmp_path: Path):
    (tmp_path / "config").write_text(
        f"[profile mine]\nendpoint_url = {s3.endpoint}\nregion = us-east-1\n"
        "aws_access_key_id = writer\naws_secret_access_key = writer-secret\n"
    )
    env: dict[str, str | None] = dict.fromkeys(s3.env) | {
        "AWS_PROFILE": "mine",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
    }
    done = run_job("index", f"{bucket}/videos", "--output", tmp_path / "manifest.parquet", env=env)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "manifest.parquet").num_rows == 20
