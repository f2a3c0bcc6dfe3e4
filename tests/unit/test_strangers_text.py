"""What people read is one honest line: no control characters of a file's name, and no secrets of anybody."""

from __future__ import annotations

import ast
import io
import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidpipe.cli import check_no_secrets, parse, run, setup_logging
from vidpipe.config import DoctorConfig, IndexConfig
from vidpipe.errors import DecodeError, FailureRateError, UsageError
from vidpipe.plain_text import WithoutColors, printable, redacted, say, shown
from vidpipe.run_file import write_run_file

PACKAGE = Path(__file__).parents[2] / "vidpipe"
CONTROLS = {
    "a forged log line": "a.mp4\n12:00:00 INFO all is well",
    "a return over the line": "evil\rgood.mp4",
    "a cleared screen": "\x1b[2J\x1b[H.mp4",
    "a terminal's title": "\x1b]0;title\x07.mp4",
    "a link that is not what it shows": "\x1b]8;;https://evil.example\x1b\\good.mp4\x1b]8;;\x1b\\",
    "escapes of eight bits": "\x9b31m.mp4",
    "text to the left": "gpj.\u202e4pm",
    "an isolated direction": "a\u2066b\u2069.mp4",
    "letters of no width": "a\u200bb\u200d.mp4",
    "line separators": "a\u2028b\u2029c\x85d.mp4",
    "backspaces": "evil\b\b\b\bgood.mp4",
    "a zero byte": "a\x00b.mp4",
    "half a surrogate": "a\udc80.mp4",
}
SECRETS = {
    "a password in a URL": "cannot open https://me:s3cr3t-word@host/a.mp4",
    "a password with an odd letter": "ftp://me:s3cr3t-word!$%25@host:21/a.mp4",
    "a presigned S3 URL": "GET https://b.s3.amazonaws.com/k?X-Amz-Credential=AK%2F1&X-Amz-Signature=s3cr3t-word failed",
    "a presigned URL of Azure": "https://x.blob.core.windows.net/c/a.mp4?sv=2024&sig=s3cr3t-word%3D",
    "a presigned URL of Google": "https://storage.googleapis.com/b/a?X-Goog-Signature=s3cr3t-word&x=1",
    "a signature of CloudFront": "https://d1.cloudfront.net/a?Expires=1&Policy=s3cr3t-word__&Key-Pair-Id=K",
    "a token behind a hash": "https://host/a.mp4#access_token=s3cr3t-word",
    "a path with its query": "403 for /k?X-Amz-Security-Token=s3cr3t-word&part=2",
    "settings as a dict": "{'key': 'a', 'aws_secret_access_key': 's3cr3t-word', 'token': \"s3cr3t-word\"}",
    "settings as a call": "S3FileSystem(anon=False, secret=s3cr3t-word, session_token='s3cr3t-word')",
    "settings of a shell": "AWS_SECRET_ACCESS_KEY=s3cr3t-word AWS_SESSION_TOKEN=s3cr3t-word",
    "a header": "Authorization: AWS4-HMAC-SHA256 Credential=s3cr3t-word/20261121, Signature=s3cr3t-word",
    "a bearer": "Authorization: Bearer s3cr3t-word",
    "JSON": '{"password": "s3cr3t-word"}',
}
PLAIN = [
    "s3://bucket/a@b.mp4: 3 videos (100 %), see s3://bucket/out/status",
    "manifest has 3 videos without a split (first: a1.mp4); run jobs/index.py --split-by group or fill the column",
    "export RAY_AUTH_MODE=token; ray get-auth-token --generate",
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (s3://)",
    "walk ✓ läuft 走る café 👍 100 %…",
    "http://127.0.0.1:8265/api/jobs and https://host/folder/a.mp4",
]


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """`setup_logging` and `parse` are for a process of its own; the next test wants its log and its Ctrl-C back."""
    ours = logging.getLogger("vidpipe")
    before = ours.handlers, ours.propagate, ours.level
    on_signal, unraisable = signal.getsignal(signal.SIGINT), sys.unraisablehook
    yield
    ours.handlers, ours.propagate, _ = before
    ours.setLevel(before[2])
    signal.signal(signal.SIGINT, on_signal)
    sys.unraisablehook = unraisable


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS)
def test_a_name_stays_on_its_line_and_leaves_the_terminal_alone(text, capsys):
    line = printable(text)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    say(f"label  {text}")
    assert capsys.readouterr().out == f"label  {line}\n"


@pytest.mark.parametrize("text", CONTROLS.values(), ids=CONTROLS)
def test_a_log_line_is_one_line(text, capsys):
    setup_logging()
    log = logging.getLogger("vidpipe.test")
    log.warning("cannot read %s", text)
    err = capsys.readouterr().err
    assert err.endswith("\n")
    assert err[:-1].isprintable()


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_not_shown(text):
    assert "s3cr3t-word" in text
    assert "s3cr3t" not in shown(text)
    assert "REDACTED" in shown(text)


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_is_shown_as_it_is(text):
    assert shown(text) == text


def test_what_the_environment_keeps_secret_is_shown_nowhere(monkeypatch, capsys):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "FwoGZXIvYXdzEBYaD")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json")
    say("signed with wJalrXUtnFEMI/K7MDENG and FwoGZXIvYXdzEBYaD of /home/me/key.json")
    assert capsys.readouterr().out == "signed with REDACTED and REDACTED of /home/me/key.json\n"


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_run_json_and_a_status_row_hold_no_secret(text, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    config = DoctorConfig(input=text)
    write_run_file(str(tmp_path), "doctor", config, {"why": [text, "wJalrXUtnFEMI"]}, seconds=1.0, versions=[])
    written = (tmp_path / "run.json").read_text()
    assert "s3cr3t" not in written
    assert "wJalr" not in written
    assert json.loads(written)["seconds"] == 1.0
    assert "s3cr3t" not in str(DecodeError("forbidden", text))


def test_only_texts_are_redacted():
    value = {"limit": 3, "labels": ("a", "b"), "none": None, "url": "https://u:p@host/", "is": True}
    assert redacted(value) == {**value, "labels": ["a", "b"], "url": "https://REDACTED@host/"}


@pytest.mark.parametrize("error", [UsageError, FailureRateError, RuntimeError, ValueError])
def test_an_error_that_ends_a_job_is_one_line_without_secrets(error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def stage(config):
        raise error("https://me:s3cr3t@host/\x1b[2J is\nnot there")

    try:
        run(stage, None)
    except SystemExit:
        pass
    except (RuntimeError, ValueError):  # what propagates is printed by the interpreter, through the hook
        sys.excepthook(*sys.exc_info())
    err = capsys.readouterr().err
    assert "s3cr3t" not in err
    assert "\x1b" not in err
    assert "https://REDACTED@host/\\x1b[2J is" in err


def test_a_traceback_in_the_log_keeps_its_lines_and_no_secret(capsys: pytest.CaptureFixture[str]):
    setup_logging()
    try:
        raise RuntimeError("\x1b[2J" + "https://me:s3cr3t" + "@host/")
    except RuntimeError:
        logging.getLogger("vidpipe.test").exception("it broke")
    text = capsys.readouterr().err
    assert len(text.splitlines()) > 3
    assert "\x1b" not in text
    assert "https://REDACTED@host/" in text


def test_colors_of_ray_do_not_reach_a_file():
    file = io.StringIO()
    print("\x1b[36m(RayTrainWorker pid=12)\x1b[0m it broke\x1b[32m [repeated 2x]\x1b[0m", file=WithoutColors(file))
    assert file.getvalue() == "(RayTrainWorker pid=12) it broke [repeated 2x]\n"


@pytest.mark.parametrize(
    "argument",
    ["https://me:word@host/m.csv", "https://host/m.csv?X-Amz-Signature=word", "--weights=https://host/w.pth?sig=word"],
)
def test_a_command_line_with_a_secret_is_refused_and_not_repeated(argument, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["jobs/index.py", argument])
    with pytest.raises(SystemExit) as ended:
        parse(IndexConfig)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert "word" not in err.replace("a password or a signature", "")
    assert "holds a password or a signature" in err
    check_no_secrets(["s3://bucket/what?token=x", "--root=/a/b@c", "videos/"])


def test_everything_that_is_printed_goes_through_one_place():
    """`print` is called there, and by the demo's generator, which prints its own flags."""
    calls = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert set(calls) == {"plain_text.py", "synthetic/__main__.py"}
