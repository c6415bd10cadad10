"""Files are replaced in one step, also on full disks and in folders without permission."""

import errno
import os
from pathlib import Path

import pytest

from darts_noise.atomic import replacing, write_text


def refuse(number: int):
    def refusing(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return refusing


@pytest.mark.parametrize(
    ("call", "number"),
    [("fsync", errno.ENOSPC), ("replace", errno.EACCES), ("chmod", errno.EROFS)],
)
def test_a_disk_that_refuses_is_named_with_the_file_which_stays_as_it_was(
    call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "card.json"
    write_text(path, "old")
    monkeypatch.setattr(os, call, refuse(number))
    with pytest.raises(OSError, match=os.strerror(number)) as refused:
        write_text(path, "new")
    assert (refused.value.errno, refused.value.filename) == (number, str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["card.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "card.json"
    with pytest.raises(OSError, match="file") as refused:
        write_text(path, "new")
    assert refused.value.filename == str(path)


def test_what_is_replaced_may_be_kept(tmp_path: Path) -> None:
    path, keep = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        with replacing(path, keep) as file:
            file.write(text.encode())
    assert (path.read_text(), keep.read_text()) == ("three", "two")
    with pytest.raises(KeyboardInterrupt), replacing(path, keep) as file:
        raise KeyboardInterrupt
    assert (path.read_text(), keep.read_text()) == ("three", "two")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]
