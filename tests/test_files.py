"""Files are whole or not there; folders have one owner."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from ddid.errors import InputError
from ddid.files import atomic_write, lock, make_folder, read_json, walk, write_json


def test_every_file_is_walked_once_through_links_but_not_hidden_or_passed_ones(tmp_path):
    for name in ("a/1", "a/.copies/2", "run/3", "store/4"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    (tmp_path / "set/store").rename(tmp_path / "store")
    (tmp_path / "set/linked").symlink_to(tmp_path / "store")
    (tmp_path / "set/a/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")

    def found(*passed):
        below = walk(tmp_path / "set", *passed)
        return sorted(os.path.relpath(path, tmp_path / "set") for path in below)

    assert found() == ["a/1", "linked/4", "run/3"]
    assert found(tmp_path / "set/run") == ["a/1", "linked/4"]


def test_a_folder_that_may_not_be_written_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match="cannot be written to: choose another"):
        make_folder(tmp_path / "theirs")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def interrupted():
        with atomic_write(path) as temporary:
            temporary.write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full():
        with atomic_write(path):
            raise error

    with pytest.raises(InputError, match="disk is full"):
        full()
    assert read_json(path) == {"old": 1}


def test_other_errors_pass_through_unchanged(tmp_path):
    def broken():
        with atomic_write(tmp_path / "a.json"):
            raise OSError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        broken()


def test_numbers_that_json_cannot_say_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json is not JSON"):
        read_json(tmp_path / "a.json")


HOLD = "import sys, time; from ddid.files import lock\n"
HOLD += "with lock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
WRITE = "import sys, time; from ddid.files import atomic_write\n"
WRITE += "with atomic_write(sys.argv[1]) as t: t.write_text('x'); print(flush=True); time.sleep(60)"


def _killed(text, path, wait=True):
    process = subprocess.Popen([sys.executable, "-c", text, str(path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    if wait:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return process


def test_a_folder_has_one_owner_and_the_dead_own_nothing(tmp_path):
    process = _killed(HOLD, tmp_path, wait=False)
    with pytest.raises(InputError, match=f"in use by process {process.pid} on .* since"):
        lock(tmp_path).__enter__()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with lock(tmp_path):
        assert read_json(tmp_path / ".owner.json")["pid"] == os.getpid()
    with lock(tmp_path):
        pass


def test_what_a_killed_writer_left_is_cleared_by_the_next_owner(tmp_path):
    path = tmp_path / "deep" / "a.json"
    _killed(WRITE, path)
    left = list(path.parent.iterdir())
    assert len(left) == 1
    assert left != [path]
    with atomic_write(tmp_path / "mine.txt") as mine:
        mine.write_text("x")
        with lock(tmp_path):
            assert not list(path.parent.iterdir())
            assert mine.exists(), "its writer lives"


@pytest.mark.parametrize("where", ["a", "a/below", "\0"])
def test_where_no_folder_can_be_there_is_one_sentence(tmp_path, where):
    (tmp_path / "a").write_text("x")
    with pytest.raises(InputError, match="no folder can be made there"):
        lock(tmp_path / where).__enter__()
    with pytest.raises(InputError, match="no folder can be made there"):
        write_json(tmp_path / where / "b.json", {})


def test_what_is_written_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append("bytes"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (seen.append("name"), replace(a, b)))
    write_json(tmp_path / "a.json", {})
    assert seen == ["bytes", "name"]
