"""Fault campaign: whatever befalls a run, it ends with the bytes of an undisturbed one.

`python -m tests.faults` takes hours, `python -m tests.faults --moments 4` less than one. No test.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from ddid.files import read_json
from ddid.notebook import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "figures" / "results" / "faults.csv"
COMPARED = {".csv", ".json", ".npz", ".png", ".jpg", ".safetensors"}
ASIDE = {"figures", "before", "decoded", "state.json", "environment.json", "parameters.json"}
COLUMNS = ["fault", "moments", "same_bytes", "seconds", "hardware"]
KILLS = 4  # of one folder, before it may end
STUDY = """
profile: smoke
notebooks: [01_bias_analysis, 03_adversarial_meta_training]
set: {effect_steps: 0, refit_steps: 2}
variants: {none: {recipes: none}, metric_at: {recipes: metric_at}}
columns: [variant, recipe, measure, value]
gather: [{record: 03_adversarial_meta_training.recipes, levels: [recipe, measure]}]
"""
OTHER_CLOCK = """
import os, time
shift, now = float(os.environ["SHIFT"]), time.time
time.time = lambda: now() + shift
"""


@dataclass
class Job:
    """A command that writes a folder, and what an undisturbed one leaves there."""

    name: str
    command: list[str]
    place: Path
    clean: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, folder: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start, or go on with, the work in `folder`; it heads a process group of its own."""
        log = self.place.joinpath(f"{folder.name}.log").open("ab")
        command = [sys.executable, "-m", "ddid", *self.command, "--out", str(folder)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        given = {"cwd": ROOT, "env": env, "stdout": log, "stderr": log}
        return subprocess.Popen(command, start_new_session=True, **given)

    def told(self, folder: Path) -> str:
        """The last line that was printed, which is printed here too."""
        text = self.place.joinpath(f"{folder.name}.log").read_text(errors="replace")
        print("   ", said := (text.strip() or "nothing").splitlines()[-1], flush=True)
        return said

    def undisturbed(self) -> None:
        """Run it in peace, and remember what it left."""
        folder, begin = self.place / f"{self.name}_clean", time.monotonic()
        self.finish(folder)
        self.seconds, self.clean = time.monotonic() - begin, contents(folder)
        print(f"{self.name}: {len(self.clean)} files in {self.seconds:.0f} s", flush=True)

    def finish(self, folder: Path, **env: str) -> None:
        """Go on to the end, deleting the files that a sentence asks to delete."""
        if self.start(folder, **env).wait():
            said = self.told(folder)
            named = [path for path in folder.rglob("*") if path.is_file() and str(path) in said]
            assert named, f"{self.name} does not go on: {said}"
            for path in named:
                path.unlink()
            self.finish(folder, **env)

    def same(self, folder: Path) -> bool:
        """Whether a folder holds what the undisturbed one does, and no temporaries."""
        differ = {name for name, _ in contents(folder).items() ^ self.clean.items()}
        differ |= {str(path) for path in folder.rglob("*.writing-*")}
        print(*[f"    differs: {name}\n" for name in sorted(differ)], sep="", end="", flush=True)
        return not differ


def contents(folder: Path) -> dict[str, str]:
    """Digests of the files whose bytes the seed determines, less what is set aside."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        aside = ASIDE & {*name.parts} or any(part[0] == "." for part in name.parts)
        if path.is_file() and path.suffix in COMPARED and not aside:
            found[str(name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def finished(folder: Path) -> dict[str, str]:
    """The same of the notebooks that ended."""
    ended = [p.parent for p in folder.rglob("*/state.json") if read_json(p).get("finished")]
    return {f"{each}/{name}": digest for each in ended for name, digest in contents(each).items()}


def kill(process: subprocess.Popen[bytes], whole: bool) -> None:
    """Kill -9 the process group, or the `whole` tree with the kernels, which are not in it."""
    tree = psutil.Process(process.pid).children(recursive=True) if whole else []
    os.killpg(process.pid, signal.SIGKILL)
    for child in tree:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def disturbed(
    job: Job,
    moments: int,
    draw: random.Random,
    disturb: Callable[[subprocess.Popen[bytes], Path], None],
    place: Path,
    env: Callable[[], dict[str, str]] = dict,
) -> int:
    """Disturb runs at random moments, at most `KILLS` each; returns how many were harmless."""
    left, harmless = moments, 0
    while left:
        folder, count = place / f"{job.name}_{left}", 0
        while count < min(KILLS, left):
            process, wait = job.start(folder, **env()), draw.uniform(0, job.seconds / 2)
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait)
                break
            kept = finished(folder)
            disturb(process, folder)
            count += 1
            print(f"  {job.name}: moment {moments - left + count}, {wait:.0f} s", flush=True)
            lost = kept.items() - finished(folder).items()
            assert not lost, f"finished work is gone: {lost}"
        job.finish(folder, **env())
        same = job.same(folder)
        harmless, left = harmless + count * same, left - count
        if same:
            shutil.rmtree(folder)
    return harmless


def killed(job: Job, moments: int, draw: random.Random) -> int:
    return disturbed(job, moments, draw, lambda p, _: kill(p, draw.random() < 0.5), job.place)


def full_disk(job: Job, moments: int, draw: random.Random) -> int:
    """A file takes all the room until the run stops. Not root: `unshare -rm python -m …`."""

    def fill(process: subprocess.Popen[bytes], folder: Path) -> None:
        ballast = folder.parent / "ballast"
        with ballast.open("wb", buffering=0) as stream:
            while process.poll() is None:
                with suppress(OSError):
                    while stream.write(bytes(2**20)):
                        pass
                time.sleep(0.05)
        ballast.unlink()
        job.told(folder)

    disk = job.place / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)], check=True)
    try:
        return disturbed(job, moments, draw, fill, disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def corrupted(job: Job, moments: int, draw: random.Random) -> int:
    """Of a finished run, a file is cut or one bit of it turned, at the same time of change."""
    folder, harmless = job.place / f"{job.name}_clean", 0
    for _ in range(moments):
        files = [folder / name for name in job.clean]
        files += [*folder.glob("*/state.json"), *folder.glob("decoded/*.npy")]
        parent = draw.choice(sorted({path.parent for path in files}))
        path = draw.choice([path for path in files if path.parent == parent])
        was, content = path.stat(), bytearray(path.read_bytes())
        place, cut = draw.randrange(len(content)), draw.random() < 0.3
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content[:place] if cut else content)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
        print(f"  {path.relative_to(folder)}: {place} {'cut' if cut else 'bit'}", flush=True)
        job.finish(folder)
        harmless += job.same(folder)
    return harmless


def other_clock(job: Job, moments: int, draw: random.Random) -> int:
    """Killed runs go on with the clock set back or forward, among files of the future."""
    (job.place / "sitecustomize.py").write_text(OTHER_CLOCK)

    def env() -> dict[str, str]:
        python = os.pathsep.join([str(job.place), os.environ.get("PYTHONPATH", str(ROOT))])
        return {"PYTHONPATH": python, "SHIFT": str(draw.uniform(-4e7, 4e7))}

    def disturb(process: subprocess.Popen[bytes], folder: Path) -> None:
        kill(process, whole=True)
        for path in filter(Path.is_file, folder.rglob("*")):
            os.utime(path, times=(then := time.time() + draw.uniform(-8e5, 8e5), then))

    return disturbed(job, moments, draw, disturb, job.place, env)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=50, help="of every fault, default 50")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="+", help="kill, sweep, full, corrupt, clock; default all")
    parser.add_argument("--csv", action="store_true", help=f"add the rows to {RESULTS.name}")
    parser.add_argument("more", nargs="*", help="options of `ddid run`, say -- --only 01 02")
    options = parser.parse_args()
    rows, draw, hardware = [], random.Random(options.seed), environment()["hardware"]
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        place = Path(folder)
        (place / "study.yaml").write_text(STUDY)
        run = Job("run", ["run", "smoke", "--resume", *options.more], place)
        sweep = Job("sweep", ["sweep", str(place / "study.yaml"), "--workers", "2"], place)
        faults = {
            "kill": ("kill -9, smoke run", killed, run),
            "sweep": ("kill -9, sweep on two workers", killed, sweep),
            "full": ("full disk", full_disk, run),
            "corrupt": ("a file cut or a bit turned", corrupted, run),
            "clock": ("clock set back or forward", other_clock, run),
        }
        for fault in options.only or faults:
            name, fault_of, job = faults[fault]
            if not job.clean:
                job.undisturbed()
            begin, same = time.monotonic(), fault_of(job, options.moments, draw)
            seconds = round(time.monotonic() - begin)
            rows.append([name, options.moments, same, seconds, hardware])
            table = pd.DataFrame(rows, columns=COLUMNS)
            if options.csv:
                last = table.tail(1)
                last.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
