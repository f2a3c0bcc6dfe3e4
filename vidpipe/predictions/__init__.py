"""The table of predictions: a row a video, once, failed ones too.

table = read_predictions("OUT")         # pyarrow, local or s3://
facts = read_facts("OUT")               # by which checkpoint, under which settings
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from vidpipe.errors import UsageError
from vidpipe.file_errors import NO_FACTS, own_file
from vidpipe.journal import WAY_OUT, Journal, read_schema, table_files
from vidpipe.predictions.schema import METADATA_KEY, PREDICTION_COLUMNS, UNKNOWN, PredictionFacts
from vidpipe.storage import storage_errors
from vidpipe.transfer import join

__all__ = ["UNKNOWN", "PredictionFacts", "read_facts", "read_predictions"]

FOLDER = "predictions"


def read_predictions(output: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows, one a video, with all columns or some; raises UsageError when there is no such table."""
    _last_file(output)
    with storage_errors(output):
        return Journal(join(output, FOLDER), pa.schema(PREDICTION_COLUMNS)).read(columns)


def read_facts(output: str) -> PredictionFacts:
    """The facts of the rows that were written last; raises UsageError when there are none.

    Rows of another checkpoint (deleted videos, a run that was limited) say so in `checkpoint_id`.
    """
    name = _last_file(output)
    with storage_errors(output):
        url = join(output, FOLDER, name)
        schema = read_schema(url)
        with own_file(url, WAY_OUT, NO_FACTS):
            return PredictionFacts.from_json(schema.metadata[METADATA_KEY])


def _last_file(output: str) -> str:
    with storage_errors(output):
        names = table_files(join(output, FOLDER))
    if not names:
        raise UsageError(
            f"{output} holds no predictions: it has no predictions/*.parquet; make them with "
            f"jobs/predict.py SOURCE --checkpoint MODEL --output {output}"
        )
    return names[-1]
