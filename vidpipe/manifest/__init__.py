"""The table of videos: its schema, the layouts it is made from, splits by group, and the leakage audit."""

from vidpipe.manifest.schema import MANIFEST_SCHEMA, files_table, read_manifest, video_id, write_manifest

__all__ = ["MANIFEST_SCHEMA", "files_table", "read_manifest", "video_id", "write_manifest"]
