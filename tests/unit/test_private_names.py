"""What vidpipe uses of fsspec, s3fs and aiobotocore that these do not promise: it is there, and a release of another
year, which may lack it, is not installed."""

from __future__ import annotations

import ast
import re

import fsspec
import pytest
import s3fs
from aiobotocore.session import AioSession
from packaging.requirements import Requirement
from running import ROOT

FS = s3fs.S3FileSystem(anon=True, skip_instance_cache=True)
PARSERS = AioSession().get_component("response_parser_factory")
NAMES: dict[str, list[tuple[object, str]]] = {
    "fsspec": [(fsspec.AbstractFileSystem, "_get_kwargs_from_urls"), (fsspec.AbstractFileSystem, "_strip_protocol")],
    "s3fs": [
        *((FS, name) for name in ("_call_s3", "call_s3", "loop", "session", "retries", "kwargs")),
        (s3fs.core, "set_custom_error_handler"),
    ],
    "aiobotocore": [(PARSERS, "set_parser_defaults")],
}


@pytest.mark.parametrize("package", NAMES)
def test_what_we_use_of_a_package_without_its_promise_is_there(package: str):
    missing = [name for owner, name in NAMES[package] if not hasattr(owner, name)]
    assert not missing, (
        f"this {package} has no {', '.join(missing)}: find what took its place (vidpipe/storage.py, transfer.py and "
        f"listing.py use it), or bound {package} below this release in pyproject.toml"
    )


def test_the_list_above_is_whole():
    text = "\n".join(path.read_text() for path in (ROOT / "vidpipe").rglob("*.py"))
    used = set(re.findall(r"\b(?:fs|kind)\.(_[a-z]\w+)", text))
    assert used == {name for names in NAMES.values() for _, name in names if name.startswith("_")}


def test_the_packages_are_bounded():
    """aiobotocore by s3fs."""
    body = re.search(r"^dependencies = (\[.*?^\])", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    needs = {need.name: need.specifier for need in map(Requirement, ast.literal_eval(body[1]))}
    for package in ("fsspec", "s3fs"):
        assert not needs[package].contains("2027.1"), f"{package}: a release of next year may lack what we use of it"
        assert not needs[package].contains("2026.1"), f"{package} 2026.1 has no set_custom_error_handler"
    assert not needs["transformers"].contains("5.22"), "before 5.23 it loads published VideoMAE without its biases"
