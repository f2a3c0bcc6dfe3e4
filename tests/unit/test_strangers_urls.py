"""A table in a bucket names videos of that bucket alone: what is tried to make vidpipe read anything else."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from prediction_tables import answer, manifest_table, write_predictions

from vidpipe.config import EvaluateConfig, IndexConfig, PredictConfig, PreprocessConfig
from vidpipe.manifest import tables
from vidpipe.manifest.load import load_manifest
from vidpipe.manifest.make import make_manifest
from vidpipe.manifest.reach import is_below, reach_of
from vidpipe.predictions.sources import find_source
from vidpipe.spec import ClipSpec
from vidpipe.stages.evaluate import evaluate
from vidpipe.stages.preprocess import preprocess
from vidpipe.storage import filesystem

OUTSIDE = {
    "a local file": "file:///etc/passwd",
    "a local path": "/etc/passwd",
    "the home folder": "~/.aws/credentials",
    "local:// as fsspec spells it": "local:///etc/passwd",
    "the scheme in upper case": "FILE:///etc/passwd",
    "another bucket": "s3://other/video.mp4",
    "a bucket whose name begins alike": "s3://bucket-evil/video.mp4",
    "a bucket whose name is longer": "s3://bucket.evil.com/video.mp4",
    "the bucket alone": "s3://bucket",
    "dots out of the bucket": "s3://bucket/../other/video.mp4",
    "dots behind folders": "s3://bucket/a/b/../../../other/video.mp4",
    "dots at the end": "s3://bucket/a/../..",
    "dots in percent": "s3://bucket/%2e%2e/other/video.mp4",
    "dots in percent, twice": "s3://bucket/%252e%252e/other/video.mp4",
    "dots with backslashes": "s3://bucket/..\\other/video.mp4",
    "dots with a tab between": "s3://bucket/.\t./other/video.mp4",
    "a relative path upwards": "../../other/video.mp4",
    "the scheme of the bucket in upper case": "S3://bucket/video.mp4",
    "the bucket by another scheme": "s3a://other/video.mp4",
    "a chain of file systems": "simplecache::file:///etc/passwd",
    "a chain that begins in a zip": "zip://video.mp4::file:///etc/archive.zip",
    "the cloud's metadata service": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "a service on this machine": "http://127.0.0.1:8265/api/jobs/",
    "a host by ftp": "ftp://internal/video.mp4",
    "a host by ssh, to which fsspec connects when it is named": "sftp://internal/video.mp4",
    "a name in front of another host": "https://bucket@evil.example/video.mp4",
    "nothing but a scheme": "s3://",
}
INSIDE = {
    "an object": "s3://bucket/video.mp4",
    "a folder's object": "s3://bucket/a/b/video.mp4",
    "dots that stay within": "s3://bucket/a/../video.mp4",
    "dots in a name": "s3://bucket/a..b/..video...mp4",
    "a percent sign": "s3://bucket/100%.mp4",
    "a name that looks like a chain": "s3://bucket/a::file:///etc/passwd",
    "a question mark": "s3://bucket/what?token=now.mp4",
}


class AskedError(Exception):
    """A storage was asked for something."""


@pytest.fixture
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise AskedError

    monkeypatch.setattr(tables, "file_info", ask)


def put(url: str, *urls: str) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([["url"], *([each] for each in urls)])
    if "://" in url:
        fsspec.filesystem("memory").pipe_file(url, text.getvalue().encode())
    else:
        Path(url).write_text(text.getvalue())
    return url


@pytest.mark.parametrize("url", OUTSIDE.values(), ids=OUTSIDE)
def test_a_listing_in_a_bucket_names_nothing_outside_of_it(url):
    named = url if "://" in url or url.startswith(("/", "~")) else f"s3://bucket/{url}"
    with pytest.raises(ValueError, match=r"row 2 names .*--allow-url-prefix|a password or a signature"):
        reach_of("s3://bucket/lists/videos.csv", ()).check(["s3://bucket/good.mp4", named])


@pytest.mark.parametrize("url", INSIDE.values(), ids=INSIDE)
def test_a_listing_in_a_bucket_names_all_that_lies_in_it(url):
    reach_of("s3://bucket/lists/videos.csv", ()).check([url])


@pytest.mark.parametrize("url", OUTSIDE.values(), ids=OUTSIDE)
def test_a_table_in_a_bucket_that_names_what_is_outside_is_refused_before_any_request(url, nobody_is_asked):
    source = put("memory://bucket/videos.csv", "memory://bucket/good.mp4", url)
    with pytest.raises(ValueError, match=r"row 2 names|row 1 names"):
        make_manifest(IndexConfig(source=source, layout="table"))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", "memory://bucket/../other/a.mp4"])
def test_a_manifest_in_a_bucket_is_held_to_it_in_preprocess_and_predict(url, tmp_path):
    pq.write_table(manifest_table([{"url": url}]), tmp_path / "m.parquet")
    source = "memory://bucket/m.parquet"
    fsspec.filesystem("memory").pipe_file(source, (tmp_path / "m.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"row 1 names .*--allow-url-prefix"):
        preprocess(PreprocessConfig(source=source, output=str(tmp_path / "out")))
    with pytest.raises(ValueError, match=r"row 1 names .*--allow-url-prefix"):
        find_source(source, ClipSpec())
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"], "nothing was written"


def test_what_is_allowed_is_allowed_and_no_more(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    source = put("memory://bucket/videos.csv", str(tmp_path / "a.mp4"))
    allowed = (str(tmp_path),)
    (row,) = load_manifest(source, None, allowed).to_pylist()
    assert (row["url"], row["size_bytes"]) == (str(tmp_path / "a.mp4"), 5)
    put(source, f"{tmp_path}-evil/a.mp4")
    with pytest.raises(ValueError, match=r"-evil/a\.mp4"):
        load_manifest(source, None, allowed)
    put(source, f"{tmp_path}/../a.mp4")
    with pytest.raises(ValueError, match="row 1 names"):
        load_manifest(source, None, allowed)


def test_a_local_table_is_the_users_own_word_unless_they_limit_it(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    source = put(str(tmp_path / "videos.csv"), "a.mp4", "memory://bucket/b.mp4")
    assert len(load_manifest(source, None)) == 2
    with pytest.raises(ValueError, match=r"row 2 names memory://bucket/b\.mp4"):
        load_manifest(source, None, (str(tmp_path),))
    with pytest.raises(ValueError, match="row 1 names"):
        load_manifest(source, None, ("memory://bucket",))


def test_relative_paths_of_a_table_in_a_bucket_start_at_the_root_that_the_command_names_and_stay_there(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"video")
    source, root = put("memory://bucket/videos.csv", "a.mp4"), str(tmp_path / "videos")
    assert len(make_manifest(IndexConfig(source=source, layout="table", root=root))) == 1
    put(source, "../videos.csv")
    with pytest.raises(ValueError, match="row 1 names"):
        make_manifest(IndexConfig(source=source, layout="table", root=root))


@pytest.mark.parametrize("prefix", ["", "s3://", "s3://bucket/../other", "s3://bucket/%2e%2e", "a::b", " "])
def test_a_prefix_that_would_allow_anything_or_nothing_is_refused(prefix):
    with pytest.raises(ValueError, match="allow_url_prefix must be a bucket or a folder"):
        reach_of("s3://bucket/videos.csv", (prefix,))


def test_the_flag_is_refused_where_it_would_do_nothing(tmp_path):
    with pytest.raises(ValueError, match="is for a manifest or a table"):
        find_source(str(tmp_path), ClipSpec(), ("s3://bucket",))
    with pytest.raises(ValueError, match="is for the layout table"):
        IndexConfig(source="s3://bucket", allow_url_prefix=("s3://bucket",))
    assert PredictConfig(source="m.csv", checkpoint="m", allow_url_prefix=("s3://b",)).allow_url_prefix == ("s3://b",)


@pytest.mark.parametrize("checkpoint", ["{tmp}/model", "s3://other/model", "sftp://internal/model", "data:,x", "../m"])
def test_predictions_in_a_bucket_lead_evaluate_to_nothing_outside_of_it(checkpoint, tmp_path, monkeypatch):
    def ask(*_: object) -> None:
        raise AskedError

    for name in ("film.file_info", "training.file_names", "training.read_buffer", "film.open_ledger"):
        monkeypatch.setattr(f"vidpipe.report.{name}", ask)
    rows = [answer(url, "run", 0.9, ("run", "walk")) for url in ("/etc/passwd", "s3://other/a.mp4", "file:///etc/b")]
    output, named = "memory://bucket/predictions", checkpoint.format(tmp=tmp_path)
    write_predictions(output, ("run", "walk"), rows, checkpoint=("c0ffee0123456789", named))
    report = evaluate(EvaluateConfig(predictions=output, output=str(tmp_path / "out")))
    (note,) = report["training"]["notes"]
    assert f"the predictions name {named}, and this table may name what is below memory:///bucket/ only" in note
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("No frames: the predictions name") >= 3
    with pytest.raises(AskedError):
        evaluate(EvaluateConfig(predictions=output, output=str(tmp_path / "out"), allow_url_prefix=("/etc",)))


def test_an_object_keeps_its_bucket_however_its_name_reads():
    """`filesystem` takes one protocol, the first: what follows in the name opens nothing."""
    for url in INSIDE.values():
        fs, path = filesystem(url)
        assert "s3" in fs.protocol
        assert fs.split_path(path)[0] == "bucket"
        assert is_below(url, "s3://bucket/")


@pytest.mark.parametrize(
    "url",
    ["https://me:pass@host/a.mp4", "https://host/a.mp4?X-Amz-Expires=60&X-Amz-Signature=abcdef", "https://h/a?sig=x"],
)
def test_a_url_that_holds_a_secret_is_in_no_table(url, tmp_path):
    source = put(str(tmp_path / "videos.csv"), url)
    with pytest.raises(ValueError, match="a password or a signature") as caught:
        load_manifest(source, None)
    for secret in ("pass", "abcdef", "sig=x"):
        assert secret not in str(caught.value).replace("a password or", "")
