"""vidpipe: a bucket of videos becomes labels, on Ray."""

__version__ = "0.1.0"
