"""The README says what is: its commands parse, its Python runs, its tables list what there is."""

import re
import shlex
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import tyro

from vidpipe.config import DoctorConfig, EvaluateConfig, IndexConfig, PredictConfig, PreprocessConfig, TrainConfig
from vidpipe.errors import ERROR_CODES
from vidpipe.ledger import STATUS_COLUMNS, Ledger
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.manifest import MANIFEST_SCHEMA
from vidpipe.model_spec import DEFAULT_BACKBONES
from vidpipe.parts import PLAIN_COLUMNS
from vidpipe.predictions.schema import PREDICTION_COLUMNS, SEGMENT_COLUMNS, feature_columns
from vidpipe.spec import SAMPLING_FIELDS, ClipSpec
from vidpipe.synthetic import generate_folder

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONFIGS = {
    "index": IndexConfig,
    "preprocess": PreprocessConfig,
    "train": TrainConfig,
    "predict": PredictConfig,
    "evaluate": EvaluateConfig,
    "doctor": DoctorConfig,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return re.findall(r"python (jobs/\w+\.py [^\n#]*)", text)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `out/`, as preprocess leaves it."""
    folder = tmp_path_factory.mktemp("readme")
    generate_folder(str(folder / "videos"), num_videos=4, seed=0)
    videos = [
        {"video_id": path.stem, "url": str(path), "version": "1", "size_bytes": path.stat().st_size}
        | {"label": path.parent.name, "split": "train", "group": None}
        for path in sorted((folder / "videos").rglob("*.*"))
    ]
    spec = ClipSpec(size="32")
    settings = PartSettings(
        output=str(folder / "out"), spec=spec, part_bytes=1 << 20, time_limit_s=60, memory_limit_bytes=1 << 30
    )
    Ledger(settings.output, spec).commit(make_parts(videos, settings))
    return folder


@pytest.mark.parametrize("command", commands())
def test_every_command_parses(command: str):
    job, *flags = shlex.split(command)
    tyro.cli(CONFIGS[Path(job).stem], args=flags)


def test_there_are_commands_for_every_job():
    assert {Path(shlex.split(command)[0]).name for command in commands()} == {
        path.name for path in (ROOT / "jobs").glob("*.py")
    }


@pytest.mark.parametrize("code", [block for block in blocks("python") if "import ray" not in block])
def test_python_without_ray_runs_as_it_stands(code: str, output: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(output)
    names: dict = {}
    exec(code, names)
    shown = names.get("clip", names.get("frames"))
    assert shown is not None
    assert shown.shape[-4:] == (16, 32, 32, 3)


def test_sql_runs_as_it_stands(output: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(output)
    for code in blocks("sql"):
        assert duckdb.sql(code).fetchall() == []


def test_the_tables_name_every_column_code_and_sampling_mode():
    def cells(start: str) -> set[str]:
        line = next(line for line in README.splitlines() if line.startswith(start))
        return set(re.findall(r"`([a-z_0-9]+)`", line))

    assert set(PLAIN_COLUMNS) | {"frames"} <= cells("| `out/clips/*.parquet`")
    assert set(STATUS_COLUMNS) <= cells("| `out/status/*.parquet`")
    assert set(PREDICTION_COLUMNS) == cells("| `predictions/predictions/*.parquet`")
    assert set(SEGMENT_COLUMNS) == cells("| `predictions/segments/*.parquet`")
    assert set(feature_columns(1)) == cells("| `predictions/features/*.parquet`")
    assert set(MANIFEST_SCHEMA.names) <= cells("A manifest is a Parquet table")
    section = README.split("### Bad videos")[1].split("##")[0]
    assert {code for code in ERROR_CODES if f"`{code}`" in section} == set(ERROR_CODES)
    for mode in SAMPLING_FIELDS:
        assert f"| `{mode}` |" in README


def test_the_table_of_models_names_every_model():
    assert set(re.findall(r"^\| `(\w+)` \|", README.split("\n## Train")[1], re.MULTILINE)) >= {*DEFAULT_BACKBONES}


def test_the_table_of_recipes_names_every_recipe():
    linked = re.findall(r"^\| \[recipe-(\d)\]\(recipes/(\d\S+\.sh)\)", README, re.MULTILINE)
    assert [name for _, name in linked] == sorted(path.name for path in (ROOT / "recipes").glob("[0-9]*.sh"))
    assert all(name.startswith(number) for number, name in linked)


def test_the_ray_reader_gives_tensors_from_a_table_of_clips(output: Path):
    from vidpipe.clips import part_urls, tensor_column

    table = pa.parquet.read_table(part_urls(str(output / "out"))[0])
    frames = tensor_column(str(output / "out"))(table)["frames"]
    assert frames.type.shape == [16, 32, 32, 3]
