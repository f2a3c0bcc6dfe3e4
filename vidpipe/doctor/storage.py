"""Checks of the storage, with the credentials of this process: what is to be read, what is to be written, the clock."""

from __future__ import annotations

import email.utils
import os
import time
import urllib.error
import urllib.request

from vidpipe.config.doctor import DoctorConfig
from vidpipe.doctor.findings import ClusterFacts, Finding
from vidpipe.errors import UsageError
from vidpipe.storage import filesystem, storage_errors
from vidpipe.transfer import check_writable

MAX_CLOCK_S = 60.0
S3_REFUSES_S = 900.0  # RequestTimeTooSkewed


def check_input(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    if config.input is None:
        return Finding("ok", "not asked: give --input")
    try:
        with storage_errors(config.input):
            url = first_file(config.input)
            if url is None:
                return Finding("warn", f"{config.input} is empty", "there are videos", "check the prefix")
            fs, path = filesystem(url)
            num_bytes = len(fs.cat_file(path, start=0, end=1024))
    except UsageError as error:
        return Finding("FAIL", f"{error}", "the input can be listed and read", "see above")
    return Finding("ok", f"read {num_bytes} bytes of {url}")


def first_file(url: str) -> str | None:
    """A file at or below `url`, found without listing all of it."""
    fs, path = filesystem(url)
    if fs.isfile(path):
        return url
    for _ in range(32):  # folders in folders
        entries = fs.ls(path, detail=True)
        files = [entry["name"] for entry in entries if entry["type"] == "file" and entry["name"] != path]
        folders = [entry["name"] for entry in entries if entry["type"] == "directory" and entry["name"] != path]
        if files or not folders:
            return str(fs.unstrip_protocol(files[0])) if files else None
        path = folders[0]
    return None


def check_output(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    if config.output is None:
        return Finding("ok", "not asked: give --output")
    try:
        with storage_errors(config.output):
            check_writable(config.output)
    except UsageError as error:
        return Finding("FAIL", f"{error}", "the output can be written and deleted", "see above")
    return Finding("ok", f"wrote and removed a file in {config.output}")


def check_clock(config: DoctorConfig, cluster: ClusterFacts) -> Finding:
    urls = [url for url in (config.input, config.output) if url and url.startswith("s3://")]
    if not urls:
        return Finding("ok", "not asked: no storage with a clock")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
    try:
        off_s = time.time() - server_time_s(endpoint)
    except OSError as error:
        return Finding("FAIL", f"{endpoint} does not answer ({error})", "the storage is there", "network, endpoint")
    if abs(off_s) > MAX_CLOCK_S:
        return Finding(
            "FAIL" if abs(off_s) > S3_REFUSES_S / 3 else "warn",
            f"{off_s:+.0f} s off {endpoint}",
            f"within {MAX_CLOCK_S:.0f} s; S3 refuses requests that are {S3_REFUSES_S:.0f} s off",
            "chronyc makestep, or systemctl restart systemd-timesyncd",
        )
    return Finding("ok", f"{off_s:+.1f} s off {endpoint}")


def server_time_s(endpoint: str) -> float:
    """A server's clock, as its Date header tells; to the second."""
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10) as answer:
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:  # it refuses, and says when
        date = error.headers["Date"]
    if date is None:
        raise OSError("it sends no Date")
    return email.utils.parsedate_to_datetime(date).timestamp()
