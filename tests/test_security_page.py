"""docs/security.md promises nothing that no test holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_test_that_the_page_names_is_there(path: str, name: str):
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_row_of_the_table_names_a_test_and_nothing_else_is_called_one():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 35
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`", row.split("|")[3]) for row in rows)
    assert len(re.findall(r"tests/[\w/]+\.py::", PAGE)) == len(re.findall(r"`tests/[\w/]+\.py::\w+`", PAGE))


def test_every_test_against_strangers_is_on_the_page_or_shows_that_the_rest_is_allowed():
    """A promise that is not told is no promise: what is not on the page is a control of one that is."""
    controls = {
        "test_the_bomb_works",
        "test_the_bomb_in_a_table_works",
        "test_a_sound_file_is_read",
        "test_uuids_and_tensors_of_arrow_itself_are_data",
        "test_other_cells_stay_as_they_are",
        "test_what_is_no_secret_is_shown_as_it_is",
        "test_only_texts_are_redacted",
        "test_colors_of_ray_do_not_reach_a_file",
        "test_a_listing_in_a_bucket_names_all_that_lies_in_it",
        "test_a_local_table_is_the_users_own_word_unless_they_limit_it",
        "test_relative_paths_of_a_table_in_a_bucket_start_at_the_root_that_the_command_names_and_stay_there",
        "test_the_flag_is_refused_where_it_would_do_nothing",
    }
    there = set()
    for path in (ROOT / "tests/unit").glob("test_strangers_*.py"):
        tree = ast.parse(path.read_text())
        there |= {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
    assert there == {name for path, name in NAMED if "test_strangers_" in path} | controls


def test_the_readme_leads_to_the_page():
    assert "(docs/security.md)" in (ROOT / "README.md").read_text()
