"""kill -9 at random moments, then one clean run: nothing lost, nothing twice.

Longer: VIDPIPE_KILLS=20 VIDPIPE_KILL_VIDEOS=2000 VIDPIPE_KILL_WAIT_S=12 (15 minutes); other moments: VIDPIPE_KILL_SEED.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from killing import kill, victims, wait_until_gone

from vidpipe.clips import part_urls
from vidpipe.synthetic import generate_broken, generate_folder

ROOT = Path(__file__).parent.parent.parent
NUM_KILLS = int(os.environ.get("VIDPIPE_KILLS", "3"))
NUM_VIDEOS = int(os.environ.get("VIDPIPE_KILL_VIDEOS", "400"))
SEED = int(os.environ.get("VIDPIPE_KILL_SEED", "0"))
MARKS = {"worker": "ray::", "decoder": "vidpipe.child"}  # what their command lines hold
MAX_WAIT_S = float(os.environ.get("VIDPIPE_KILL_WAIT_S", "3"))

# Found by every Python that the job starts: notes each decode, without a hook in the product.
NOTE_DECODES = """
import importlib.util, sys

class NoteDecodes:
    def find_spec(self, name, path=None, target=None):
        if name != "vidpipe.guard":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            decode = module.Guard.decode

            def noted(guard, path, video_id, *following):
                with open({log!r}, "a") as log:
                    log.write(video_id + "\\n")
                yield from decode(guard, path, video_id, *following)

            module.Guard.decode = noted

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, NoteDecodes())
"""


class Job:
    """`jobs/preprocess.py` on the same videos, again and again."""

    def __init__(self, folder: Path, name: str) -> None:
        self.videos, self.output, self.log = folder / "videos", folder / name, folder / f"{name}.decodes"
        hooks = folder / f"{name}.hooks"
        hooks.mkdir()
        (hooks / "sitecustomize.py").write_text(NOTE_DECODES.format(log=str(self.log)))
        self.environment = {**os.environ, "PYTHONPATH": str(hooks), "RAY_ADDRESS": "local"}
        self.printed = open(folder / f"{name}.log", "ab")  # noqa: SIM115 - lives as long as the job

    def start(self) -> subprocess.Popen[bytes]:
        flags = ["--layout", "folders", "--output", str(self.output), "--size", "64", "--part-mb", "1"]
        return subprocess.Popen(
            [sys.executable, "jobs/preprocess.py", str(self.videos), *flags],
            cwd=ROOT,
            env=self.environment,
            stdout=self.printed,
            stderr=self.printed,
        )

    def num_decodes(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0

    def num_decoded_again(self) -> int:
        counts = Counter(self.log.read_text().split() if self.log.exists() else [])
        return sum(number - 1 for number in counts.values())

    def wait_for_decodes(self, driver: subprocess.Popen[bytes]) -> None:
        """Until this run decodes: most of a short job is Ray's start, and killing that shows little."""
        before = self.num_decodes()
        while driver.poll() is None and self.num_decodes() == before:
            time.sleep(0.02)

    def clips(self):
        """All rows that any Parquet reader finds, in a fixed order."""
        return pq.read_table(self.output / "clips").sort_by([("video_id", "ascending"), ("clip_index", "ascending")])

    def status(self):
        columns = ["video_id", "url", "version", "status", "error_code", "error", "num_clips", "label"]
        return pq.read_table(self.output / "status", columns=columns).sort_by("video_id")


def test_killed_at_random_moments_and_run_again_the_table_is_that_of_an_undisturbed_run(tmp_path: Path):
    generate_folder(str(tmp_path / "videos"), num_videos=NUM_VIDEOS, seed=SEED, num_workers=2)
    generate_broken(str(tmp_path / "videos"), num_videos=6, seed=SEED)
    calm = Job(tmp_path, "calm")
    assert calm.start().wait(600) == 0

    chance = random.Random(SEED)
    stormy = Job(tmp_path, "stormy")
    num_left, num_again, kinds = NUM_KILLS, 0, Counter()
    while num_left:
        driver = stormy.start()
        while driver.poll() is None and num_left:
            stormy.wait_for_decodes(driver)
            time.sleep(chance.uniform(0, MAX_WAIT_S))
            kind = chance.choice(["driver", "everything", "worker", "decoder"])
            if driver.poll() is None and kill(victims(driver, kind, MARKS)):
                kinds[kind] += 1
                num_left -= 1
                if kind in ("driver", "everything"):
                    driver.wait(60)
        if driver.wait(600) == 0 and num_left:  # done before all kills: begin anew with those that are left
            num_again += stormy.num_decoded_again()
            shutil.rmtree(stormy.output)
            stormy.log.unlink()
        wait_until_gone(str(stormy.output))
    assert stormy.start().wait(600) == 0

    assert stormy.status().equals(calm.status())
    assert stormy.clips().equals(calm.clips())
    names = {path.name for path in (stormy.output / "clips").iterdir()}
    assert names == {Path(url).name for url in part_urls(str(stormy.output))}, "an orphan part is left"
    assert pc.count_distinct(stormy.status()["video_id"]).as_py() == len(stormy.status()) == NUM_VIDEOS + 6
    num_again += stormy.num_decoded_again()
    print(f"kills: {dict(kinds)}; {num_again} videos decoded again, of {NUM_VIDEOS + 6}")
    # A kill loses at most the parts under way: of two workers, and of videos that one part of 1 MB holds.
    assert num_again <= NUM_KILLS * 2 * 120
