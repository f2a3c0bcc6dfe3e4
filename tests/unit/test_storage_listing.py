from __future__ import annotations

import os
import threading
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from vidpipe.listing import list_files
from vidpipe.storage import MISSING, FileInfo, absolute_url, file_info, filesystem, storage_errors
from vidpipe.transfer import check_writable

MP4 = frozenset({".mp4"})
ODD_NAMES = [
    "a b.mp4",
    "a#1.mp4",
    "50%25.mp4",
    "what?.mp4",
    "видео🎬.mp4",
    "line\nbreak.mp4",
    "a::b.mp4",
    "[x]*.MP4",
    "~a.mp4",
]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def listed(url: str, suffixes: frozenset[str] = MP4) -> dict[str, FileInfo]:
    files = list(list_files(url, suffixes=suffixes))
    assert len({file.url for file in files}) == len(files)
    return {file.url: file for file in files}


def test_every_wanted_file_is_listed_once_at_any_depth(tmp_path):
    names = [f"class{index % 50}/part{index % 7}/v{index}.mp4" for index in range(500)]
    write(tmp_path, *names, "notes.txt", "class1/readme.md", "top.MP4")
    assert set(listed(str(tmp_path))) == {f"{tmp_path}/{name}" for name in [*names, "top.MP4"]}


def test_hidden_files_and_folders_are_passed_over_but_underscores_are_not(tmp_path):
    write(tmp_path, ".a.mp4", ".cache/b.mp4", "x/.y/c.mp4", "_d/_e.mp4")
    assert set(listed(str(tmp_path))) == {f"{tmp_path}/_d/_e.mp4"}
    assert set(listed(str(tmp_path / ".cache"))) == {f"{tmp_path}/.cache/b.mp4"}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_listed_local_url_opens_the_same_file(tmp_path, name):
    write(tmp_path, "a", f"folder {name}/{name}")
    (url,) = listed(f"{tmp_path}/folder {name}")
    assert url == f"{tmp_path}/folder {name}/{name}"
    fs, path = filesystem(url)
    assert fs.cat_file(path) == f"folder {name}/{name}".encode()
    assert file_info(url) == listed(str(tmp_path))[url]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_listed_remote_url_opens_the_same_object(name):
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/odd/{name}": name.encode(), "/odd/a": b"another"})
    try:
        (url,) = listed("memory://odd")
        assert url == f"memory:///odd/{name}"
        fs, path = filesystem(url)
        assert fs.cat_file(path) == name.encode()
        assert file_info(url) == listed("memory://odd")[url]
    finally:
        memory.rm("/odd", recursive=True)


def test_a_remote_folder_is_listed_at_any_depth():
    memory = fsspec.filesystem("memory")
    names = [f"/deep/class{index % 5}/v{index}.mp4" for index in range(100)]
    memory.pipe(dict.fromkeys([*names, "/deep/.hidden/x.mp4", "/deep/notes.txt"], b""))
    try:
        assert set(listed("memory://deep/")) == {f"memory://{name}" for name in names}
    finally:
        memory.rm("/deep", recursive=True)


def test_a_relative_path_and_a_file_url_are_listed_as_absolute_paths(tmp_path, monkeypatch):
    write(tmp_path, "x/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert set(listed("x")) == set(listed(f"file://{tmp_path}/x/")) == {f"{tmp_path}/x/a.mp4"}
    for spelling in ("x/", "./x", "x/../x", f"{tmp_path}//x/."):
        assert absolute_url(spelling) == f"{tmp_path}/x"


def test_a_single_file_is_a_listing_of_one(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4", "c.txt")
    assert set(listed(f"{tmp_path}/a.mp4")) == {f"{tmp_path}/a.mp4"}
    assert listed(f"{tmp_path}/c.txt") == {}


def test_the_version_changes_when_the_content_is_replaced(tmp_path):
    write(tmp_path, "a.mp4")
    before = listed(str(tmp_path))[f"{tmp_path}/a.mp4"]
    os.utime(tmp_path / "a.mp4", ns=(1, 1_700_000_000_000_000_001))
    after = listed(str(tmp_path))[f"{tmp_path}/a.mp4"]
    assert before.version != after.version == f"{len('a.mp4')}-1700000000000000001"


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path):
    write(tmp_path, "elsewhere/b.mp4", "source/a.mp4")
    (tmp_path / "source/link.mp4").symlink_to(tmp_path / "source/a.mp4")
    (tmp_path / "source/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "source")
    (tmp_path / "source/up").symlink_to(tmp_path / "source")
    source = tmp_path / "source"
    assert set(listed(str(source))) == {f"{source}/{name}" for name in ["a.mp4", "link.mp4", "folder/b.mp4"]}


def test_a_link_whose_target_is_gone_is_listed_as_missing(tmp_path):
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    assert listed(str(tmp_path)) == {f"{tmp_path}/gone.mp4": FileInfo(f"{tmp_path}/gone.mp4", 0, MISSING)}


def test_a_name_that_is_not_utf8_is_refused_by_name(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.mp4")).write_bytes(b"")
    with pytest.raises(ValueError, match="must be valid UTF-8; rename"):
        listed(str(tmp_path))


def test_progress_counts_files_of_every_suffix(tmp_path):
    write(tmp_path, "a.mp4", "b/c.txt", "b/d.mp4", ".hidden")
    counts: list[int] = []
    list(list_files(str(tmp_path), suffixes=MP4, on_progress=counts.append))
    assert counts[-1] == 3
    assert counts == sorted(counts)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/no/such/folder", "is not there: check the spelling"),
        ("memory://no/such", "is not there: check the spelling"),
        ("foo://bucket/x", "local path, s3:// or gs://"),
    ],
)
def test_a_source_that_cannot_be_listed_says_so_before_the_first_file(url, message):
    with pytest.raises(ValueError, match=message):
        list_files(url, suffixes=MP4)


def test_a_path_below_a_file_is_not_there(tmp_path):
    write(tmp_path, "a.mp4")
    with pytest.raises(ValueError, match="is not there"):
        list_files(f"{tmp_path}/a.mp4/b", suffixes=MP4)


def s3_errors() -> list[tuple[Exception, str]]:
    exceptions = pytest.importorskip("botocore.exceptions")
    return [
        (exceptions.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (exceptions.EndpointConnectionError(endpoint_url="http://localhost:1"), "AWS_ENDPOINT_URL"),
        (exceptions.ConnectTimeoutError(endpoint_url="http://10.0.0.1"), "AWS_ENDPOINT_URL"),
        (PermissionError("Access Denied"), "refuses access"),
        (ConnectionRefusedError("refused"), "cannot be reached"),
        (ModuleNotFoundError("Please install gcsfs"), "not installed.*gcsfs"),
    ]


@pytest.mark.parametrize(("error", "message"), s3_errors())
def test_what_a_storage_says_becomes_a_value_error_with_the_way_out(error, message):
    with pytest.raises(ValueError, match=f"s3://bucket .*{message}") as raised, storage_errors("s3://bucket"):
        raise error
    assert raised.value.__cause__ is error


def test_an_error_that_is_not_the_storages_passes_unchanged():
    with pytest.raises(KeyError), storage_errors("s3://bucket"):
        raise KeyError("x")


def test_an_output_that_is_a_file_is_the_users_mistake(tmp_path: Path):
    (tmp_path / "out").write_text("something else")
    with pytest.raises(ValueError, match="out is a file, and a folder is needed"), storage_errors(f"{tmp_path}/out"):
        check_writable(f"{tmp_path}/out")
    assert (tmp_path / "out").read_text() == "something else"


class OneFolder(BaseHTTPRequestHandler):
    """Answers as S3 does when it is asked for a listing, whatever it is asked."""

    LISTING = b"""<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>videos/a.mp4</Key>
        <LastModified>2026-11-21T23:30:01.250Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>7</Size></Contents>
        </ListBucketResult>"""

    def do_HEAD(self) -> None:
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(self.LISTING)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.LISTING)))
        self.send_header("Last-Modified", "Sat, 21 Nov 2026 23:30:01 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_times_of_a_listing_of_s3_are_read_without_dateutil(monkeypatch: pytest.MonkeyPatch):
    """It takes three quarters of the CPU time of a listing."""
    import s3fs

    server = ThreadingHTTPServer(("127.0.0.1", 0), OneFolder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    env = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_EC2_METADATA_DISABLED": "true"}
    env |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        fs, _ = filesystem("s3://bucket/videos")
        with monkeypatch.context() as patch:
            patch.setattr("dateutil.parser.parse", lambda *_, **__: 1 / 0)
            page = fs.call_s3("list_objects_v2", Bucket="bucket", Prefix="videos/")
        changed = datetime(2026, 11, 21, 23, 30, 1, 250_000, tzinfo=timezone.utc)
        assert page["Contents"][0]["LastModified"] == changed
        assert fs.call_s3("head_object", Bucket="bucket", Key="a")["LastModified"] == changed.replace(microsecond=0)
    finally:
        server.shutdown()
        server.server_close()
        s3fs.S3FileSystem.clear_instance_cache()
