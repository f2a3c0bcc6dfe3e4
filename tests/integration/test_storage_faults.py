"""A storage that fails for a while: every way in which vidpipe talks to it gets there in the end, with all bytes."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs
from fault_proxy import FAULTS, FaultProxy, Request, fault_proxy
from running import S3Server

from vidpipe import storage
from vidpipe.errors import DecodeError
from vidpipe.journal import Journal
from vidpipe.listing import list_files
from vidpipe.manifest.schema import files_table
from vidpipe.ranges import RangeCopy
from vidpipe.storage import file_info
from vidpipe.transfer import (
    check_version,
    check_writable,
    fetch_video,
    file_names,
    put_bytes,
    put_file,
    read_buffer,
    remove_files,
)

CONTENT = secrets.token_bytes(300_000)
NUM_STRIKES = 2


@pytest.fixture(scope="module")
def only_bucket(s3: S3Server) -> str:
    return s3.make_bucket()


@pytest.fixture
def bucket(only_bucket: str) -> str:
    """A folder of its own for each test, with `videos/0.mp4` to `videos/4.mp4`, all of the same content."""
    url, fs = f"{only_bucket}/{secrets.token_hex(4)}", s3fs.S3FileSystem()
    for index in range(5):
        fs.pipe_file(f"{url}/videos/{index}.mp4", CONTENT)
    return url


@pytest.fixture
def proxy(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What this process talks to instead of the server; a stalled body is given up after half a second."""
    with fault_proxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        config = {**storage.OPTIONS["s3"]["config_kwargs"], "read_timeout": 0.5}
        # An instance of s3fs for each test: it keeps the endpoint that it began with.
        monkeypatch.setitem(storage.OPTIONS, "s3", {"config_kwargs": config, "endpoint_url": proxy.endpoint})
        monkeypatch.setattr(storage, "_tries", storage.TRIES)
        yield proxy


def strike_first(fault: str) -> Callable[[Request], str | None]:
    """Each request of a kind is struck until it has been made `NUM_STRIKES` times."""
    seen: Counter[tuple[str, str]] = Counter()

    def choose(request: Request) -> str | None:
        key = (request.method, request.target)
        seen[key] += 1
        return fault if seen[key] <= NUM_STRIKES else None

    return choose


def read_whole(bucket: str, folder: Path) -> None:
    assert read_buffer(f"{bucket}/videos/0.mp4").to_pybytes() == CONTENT


def fetch(bucket: str, folder: Path) -> None:
    info = file_info(f"{bucket}/videos/1.mp4")
    file = fetch_video(info.url, folder, size_bytes=info.size_bytes, version=info.version, by_range=True)
    assert file.path.read_bytes() == CONTENT
    assert file.is_checked


def fetch_ranges(bucket: str, folder: Path) -> None:
    info = file_info(f"{bucket}/videos/2.mp4")
    copy = RangeCopy(info.url, info.size_bytes, folder / "copy")
    copy.fetch([(270_000, 280_000), (290_000, 300_000)])
    assert (folder / "copy").read_bytes()[270_000:280_000] == CONTENT[270_000:280_000]
    check_version(info.url, info.version)


def list_all(bucket: str, folder: Path) -> None:
    found = files_table(list_files(f"{bucket}/videos", suffixes=frozenset([".mp4"])))
    assert found["url"].to_pylist() == [f"{bucket}/videos/{index}.mp4" for index in range(5)]


def write(bucket: str, folder: Path) -> None:
    check_writable(f"{bucket}/out")
    put_bytes(CONTENT, f"{bucket}/out/bytes")
    (folder / "local").write_bytes(CONTENT)
    put_file(folder / "local", f"{bucket}/out/file")
    assert file_names(f"{bucket}/out") == ["bytes", "file"]
    assert read_buffer(f"{bucket}/out/file").to_pybytes() == CONTENT
    remove_files(f"{bucket}/out", ["bytes", "file"])
    assert file_names(f"{bucket}/out") == []


def keep_a_table(bucket: str, folder: Path) -> None:
    journal = Journal(f"{bucket}/table", pa.schema({"video_id": pa.string(), "answer": pa.int64()}, {"vidpipe": "{}"}))
    for answer in (1, 2):
        journal.commit([{"video_id": "a", "answer": answer}])
    journal.compact()
    assert journal.read().to_pylist() == [{"video_id": "a", "answer": 2}]


@pytest.mark.parametrize("use", [read_whole, fetch, fetch_ranges, list_all, write, keep_a_table])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_changes_nothing(
    bucket: str, proxy: FaultProxy, tmp_path: Path, fault: str, use: Callable[[str, Path], None]
):
    proxy.choose = strike_first(fault)
    use(bucket, tmp_path)
    assert proxy.num_faults[fault] >= (fault not in ("twice", "stall", "short_body") or use is list_all)


def test_a_storage_that_goes_away_is_waited_for(bucket: str, proxy: FaultProxy, tmp_path: Path):
    fetch(bucket, tmp_path)
    proxy.go_away(5)
    fetch(bucket, tmp_path)
    write(bucket, tmp_path)
    assert proxy.num_faults["away"] == 1


def test_a_fault_that_lasts_flies_as_it_is_and_is_no_bad_video(
    bucket: str, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(storage, "_tries", 3)
    info = file_info(f"{bucket}/videos/1.mp4")
    proxy.choose = lambda request: "503"
    with pytest.raises(OSError, match="by the test"):
        fetch_video(info.url, tmp_path, size_bytes=info.size_bytes, version=info.version, by_range=True)
    assert proxy.num_faults == {"503": 3}


def test_an_object_that_was_replaced_since_it_was_listed_is_not_taken_for_it(bucket: str, tmp_path: Path):
    url = f"{bucket}/videos/3.mp4"
    listed = file_info(url)
    s3fs.S3FileSystem().pipe_file(url, CONTENT[::-1])
    with pytest.raises(DecodeError, match="replaced since it was listed") as caught:
        fetch_video(url, tmp_path, size_bytes=listed.size_bytes, version=listed.version, by_range=True)
    assert caught.value.code == "not_found"
    with pytest.raises(
        DecodeError, match=f"replaced since it was listed .version {listed.version}, now [0-9a-f]{{32}}"
    ):
        check_version(url, listed.version)
    check_version(url, "the user's own")


def test_an_object_replaced_while_its_body_is_on_the_way_is_never_mixed(
    s3: S3Server, bucket: str, proxy: FaultProxy, tmp_path: Path
):
    url = f"{bucket}/videos/4.mp4"
    listed = file_info(url)
    direct = s3fs.S3FileSystem(endpoint_url=s3.endpoint, asynchronous=False, skip_instance_cache=True)

    def replace_meanwhile(request: Request) -> str | None:
        if request.method != "GET":
            return None
        if proxy.num_faults["short_body"]:
            direct.pipe_file(url, CONTENT[::-1])
            return None
        return "short_body"

    proxy.choose = replace_meanwhile
    with pytest.raises(DecodeError, match="replaced"):
        fetch_video(url, tmp_path, size_bytes=listed.size_bytes, version=listed.version, by_range=True)


def test_credentials_that_have_run_out_are_no_fault_of_a_video(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"{bucket}/videos/1.mp4"
    listed = file_info(url)
    monkeypatch.setitem(storage.OPTIONS, "s3", {"key": "writer", "secret": "no longer valid"})
    with pytest.raises(PermissionError):
        fetch_video(url, tmp_path, size_bytes=listed.size_bytes, version=listed.version, by_range=True)
