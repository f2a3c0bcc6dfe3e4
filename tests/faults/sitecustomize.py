"""Faulty decoders for tests: with this folder on PYTHONPATH (or sys.path of the parent), decoding children misbehave.

Python imports this file when it starts. See `injected.py` for what happens, and to which videos.
"""

import sys

if "vidpipe.child" in sys.orig_argv:  # only in the processes that decode: `python -m vidpipe.child …`
    import injected

    injected.install()
