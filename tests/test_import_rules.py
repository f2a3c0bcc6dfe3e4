"""The architecture as a test: imports point down, and only stages (and the connection in cli) know Ray."""

import ast
import importlib
import importlib.util
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vidpipe"

# What each noun may import from vidpipe; a name that is not here is a new noun: add a line.
ALLOWED: dict[str, set[str]] = {
    "errors": {"plain_text"},
    "plain_text": set(),
    "descendants": set(),
    "interrupts": {"errors"},
    "plain_tables": {"errors"},
    "file_errors": {"errors"},
    "spec": {"errors"},
    "model_spec": {"errors"},
    "models": {"errors", "model_spec", "storage"},
    "checkpoint_facts": {"errors", "file_errors", "model_spec", "spec", "transform_spec"},
    "checkpoints": {
        *("checkpoint_facts", "errors", "file_errors", "model_spec", "models", "spec", "storage", "transfer"),
        *("transform_spec", "transforms"),
    },
    "transform_spec": {"errors"},
    "transforms": {"errors", "model_spec", "transform_spec"},
    "metrics": {"errors", "transform_spec"},
    "progress": set(),
    "config": {"errors", "model_spec", "spec", "transform_spec"},
    "sampling": {"errors", "spec"},
    "storage": {"errors"},
    "listing": {"storage"},
    "ranges": {"storage"},
    "transfer": {"errors", "ranges", "storage"},
    "own_files": {"errors", "file_errors", "storage", "transfer"},
    "manifest": {"config", "errors", "file_errors", "listing", "plain_tables", "plain_text", "storage", "transfer"},
    "decode": {"errors", "sampling", "spec"},
    "child": {"decode", "errors", "sampling", "spec", "video_facts"},
    "video_facts": set(),
    "guard": {"errors", "ranges", "spec"},
    "parts": {"file_errors", "guard", "own_files", "spec", "transfer"},
    "journal": {"own_files", "errors", "file_errors", "storage", "transfer"},
    "lease": {"errors", "file_errors", "storage", "transfer"},
    "ledger": {"errors", "file_errors", "journal", "lease", "own_files", "parts", "spec", "transfer", "video_facts"},
    "predictions": {
        *("checkpoint_facts", "checkpoints", "clip_blocks", "clip_model", "config", "errors", "file_errors"),
        *("journal", "label_video", "lease", "ledger", "manifest", "metrics", "own_files", "plain_tables"),
        *("progress", "run_file", "sampling", "spec", "storage", "transfer", "transform_spec", "video_facts"),
    },
    "receipt_desk": {"ledger", "progress", "run_file"},
    "parcels": set(),
    "promised_gpu": {"errors"},
    "task_cutting": set(),
    "pools": {"errors"},
    "clips": {"ledger", "parts", "plain_tables", "spec", "storage", "transfer"},
    "delivery": {"errors", "guard", "lease", "ranges", "spec", "transfer"},
    "make_parts": {"delivery", "guard", "parts", "plain_tables", "spec", "storage", "task_cutting", "transfer"},
    "clip_blocks": {
        *(
            "task_cutting",
            "clips",
            "delivery",
            "guard",
            "parts",
            "plain_tables",
            "spec",
            "storage",
            "transfer",
            "video_facts",
        ),
    },
    "clip_model": {"checkpoints", "clip_blocks", "models", "promised_gpu", "spec", "transform_spec", "transforms"},
    "contact_sheet": {"clips", "ledger", "parts", "plain_tables", "storage", "transfer"},
    "run_file": {"errors", "plain_text", "transfer"},
    "synthetic": {"errors", "storage", "transfer"},
    "training": {
        *("answers", "checkpoints", "clips", "config", "errors", "file_errors", "lease", "ledger", "metrics"),
        *("model_spec", "models", "own_files", "parts", "plain_tables", "progress", "run_file", "sampling", "spec"),
        *("storage", "transfer", "transform_spec", "transforms"),
    },
    "label_video": {
        *("checkpoints", "clip_blocks", "clip_model", "delivery", "errors", "guard", "manifest", "metrics", "sampling"),
        *("storage", "transfer"),
    },
    "answers": {"errors", "metrics"},
    "report": {
        *("answers", "checkpoint_facts", "clip_blocks", "config", "contact_sheet", "delivery", "errors"),
        *("file_errors", "guard", "ledger", "manifest", "metrics", "plain_text", "predictions", "run_file", "spec"),
        *("storage", "transfer"),
    },
    "doctor": {"config", "decode", "errors", "spec", "storage", "transfer"},
    "cli": {"descendants", "errors", "flags", "interrupts", "plain_text", "storage"},
    "flags": set(),
}
# Settings and flags: read by --help, so without the heavy libraries.
SETTINGS = ("spec", "model_spec", "transform_spec", "video_facts", "cli", "flags")
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> list[str]:
    """Dotted names that a file imports, at any depth; relative imports are not used in this project."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def noun_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path):
    noun = noun_of(path)
    theirs = {name.split(".")[1] for name in imports_of(path) if name.startswith("vidpipe.")}
    nouns = {name for name in theirs if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()} - {noun}
    if noun == "stages":
        assert "stages" not in theirs, "a stage never imports another stage"
    elif noun != "__init__":
        assert nouns <= ALLOWED[noun], f"{noun} may not import {sorted(nouns - ALLOWED[noun])}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_ray_is_imported_by_stages_and_the_connection_only(path: Path):
    if noun_of(path) not in ("stages", "cli"):
        assert not [name for name in imports_of(path) if name.split(".")[0] == "ray"]


def test_settings_import_neither_torch_nor_ray_nor_arrow():
    paths = [*(PACKAGE / "config").glob("*.py"), *(PACKAGE / f"{noun}.py" for noun in SETTINGS)]
    for path in paths:
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name.split(".")[0] for node in top for alias in node.names}
        names |= {node.module.split(".")[0] for node in top if isinstance(node, ast.ImportFrom) and node.module}
        assert not names & {"ray", "torch", "pyarrow", "av", "sklearn"}


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_a_job_fits_in_fifteen_lines(path: Path):
    assert len(path.read_text().splitlines()) <= 15


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_at_most_300_lines_and_a_function_60(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is longer than a screen"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrow_threads_read_from_memory_of_arrow(path: Path):
    """See `transfer.read_buffer`: with Python's memory one exit in ten aborted on a busy machine."""
    text = path.read_text()
    assert "py_buffer(" not in text
    assert text.count(".read_table(") == text.count(".read_table(pa.BufferReader(")


def test_no_two_modules_of_the_tests_share_a_name():
    """They are imported by name alone: of two, a plain `pytest` collects neither."""
    counts = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, number in counts.items() if number > 1] == []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_imports_what_is_there(path: Path):
    for name in imports_of(path):
        if name.startswith("vidpipe."):
            module, _, last = name.rpartition(".")
            there = (
                importlib.util.find_spec(name) if importlib.util.find_spec(module).submodule_search_locations else None
            )
            assert there or hasattr(importlib.import_module(module), last), f"{path}: {name} is not there"
