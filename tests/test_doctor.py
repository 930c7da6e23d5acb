import subprocess
import sys

import pytest

from ddid.__main__ import main
from ddid.attack import attacks
from ddid.defense.recipes import recipes
from ddid.street.street import StreetConfig, write_street


def test_the_doctor_names_versions_kernel_and_device(capsys):
    assert main(["doctor"]) == 0
    report = capsys.readouterr().out
    assert "torch" in report
    assert "kernel python3" in report


def test_the_doctor_looks_at_a_data_folder(tmp_path, capsys):
    root = write_street(tmp_path / "street", StreetConfig(train_identities=4, test_identities=4))
    (root / "query/notes.txt").write_text("mine")
    assert main(["doctor", "--data", str(root)]) == 0
    report = capsys.readouterr().out
    assert "train:" in report
    assert ", 4 ids, " in report.partition("gallery:")[2], "distractors are nobody"
    assert "1 stray file(s)" in report
    assert "broken" not in report


def test_the_doctor_tries_every_image(tmp_path, capsys):
    root = write_street(tmp_path / "street", StreetConfig(train_identities=4, test_identities=4))
    first, second, *_ = sorted((root / "query").glob("*.jpg"))
    for path in (first, second):
        path.write_bytes(path.read_bytes()[:200])
    assert main(["doctor", "--data", str(root)]) == 0
    report = capsys.readouterr().out
    assert f"2 broken image(s), which skip_broken leaves out; {first} is truncated" in report
    assert "or give skip_broken" not in report, "advice to do what was done"


def test_a_wrong_data_folder_ends_with_status_2_and_one_sentence(tmp_path, capsys):
    assert main(["doctor", "--data", str(tmp_path)]) == 2
    assert "none of the known layouts" in capsys.readouterr().err


def test_every_recipe_and_attack_is_listed(capsys):
    assert main(["list"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "}
    assert names == {*recipes(), *attacks()}


def test_the_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "run" in capsys.readouterr().out


def test_who_reads_no_further_ends_it_without_a_word():
    command = [sys.executable, "-m", "ddid", "list"]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **piped) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
