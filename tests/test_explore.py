import pytest

from ddid.errors import InputError
from ddid.page import explorer_of, serve


def test_a_folder_without_a_run_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="give the folder of a run"):
        serve(tmp_path)
    with pytest.raises(InputError, match="no file"):
        explorer_of(tmp_path)
