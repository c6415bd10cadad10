"""Checkpoints are complete or refused, whatever happens to the disk, the file or the program."""

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from darts_noise.checkpoints.checkpoint_io import (
    BEST,
    LAST,
    PREVIOUS,
    SealedCheckpointIO,
    read_whole,
    resumable,
)


def save(folder: Path, number: int, size: int = 10) -> None:
    content = {"number": number, "weights": torch.full((size,), float(number))}
    SealedCheckpointIO(folder).save_checkpoint(content, folder / LAST)


def load(path: Path) -> int:
    held = SealedCheckpointIO(path.parent).load_checkpoint(path, weights_only=True)
    number: int = held["number"]
    assert bool((held["weights"] == number).all())
    return number


def test_others_read_a_sealed_checkpoint_as_any(tmp_path: Path) -> None:
    save(tmp_path, 3)
    assert torch.load(tmp_path / LAST, weights_only=True)["number"] == 3


@pytest.mark.usefixtures("as_of_a_gpu")
def test_what_was_saved_on_a_gpu_is_read_without_one(tmp_path: Path) -> None:
    save(tmp_path, 3)
    with pytest.raises((RuntimeError, AssertionError)):
        torch.load(tmp_path / LAST, weights_only=True)
    assert load(tmp_path / LAST) == 3


def test_the_checkpoint_before_is_kept(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path, number)
    assert (load(tmp_path / LAST), load(tmp_path / PREVIOUS)) == (2, 1)
    assert resumable(tmp_path) == (tmp_path / LAST, None)


def damaged(whole: bytes) -> list[bytes]:
    cut = [whole[: int(len(whole) * share)] for share in (0, 0.001, 0.5, 0.999)] + [whole[:-1]]
    flipped = []
    for place in range(0, len(whole), 31):
        change = bytearray(whole)
        change[place] ^= 1 << place % 8
        flipped.append(bytes(change))
    return [*cut, *flipped, whole + b"\0", bytes(len(whole))]


def test_a_checkpoint_that_is_cut_off_or_changed_by_a_bit_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / LAST
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is damaged"):
            read_whole(path)


def test_a_damaged_last_falls_back_to_the_one_before_and_says_so(tmp_path: Path) -> None:
    for content in (b"", b"nonsense", None):
        for number in range(2):
            save(tmp_path, number)
        (tmp_path / LAST).unlink() if content is None else (tmp_path / LAST).write_bytes(content)
        path, said = resumable(tmp_path)
        assert path == tmp_path / LAST
        assert load(path) == 0
        assert said is not None
        assert str(path) in said
        assert "resuming from the checkpoint before it" in said


def test_where_both_are_damaged_the_best_epoch_is_left(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path, number)
    (tmp_path / LAST).replace(tmp_path / BEST)
    (tmp_path / LAST).write_bytes(b"nonsense")
    (tmp_path / PREVIOUS).write_bytes(b"")
    best = (tmp_path / BEST).read_bytes()
    path, said = resumable(tmp_path)
    assert load(path) == 2
    assert (tmp_path / BEST).read_bytes() == best
    assert said is not None
    assert said.endswith("resuming from the checkpoint of the best epoch")


def test_without_a_whole_one_there_is_no_going_on(tmp_path: Path) -> None:
    path, said = resumable(tmp_path)
    assert path is None
    assert said is not None
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*previous\.ckpt is damaged"):
        resumable(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_disk_leaves_the_last_good_checkpoint(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refusing)
        with pytest.raises(OSError, match=os.strerror(number)) as refused:
            save(tmp_path, 2)
    assert refused.value.filename == str(tmp_path / LAST)
    assert load(tmp_path / LAST) == 1
    assert os.listdir(tmp_path) == [LAST]


def test_a_folder_that_has_vanished_is_not_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    with pytest.raises(FileNotFoundError) as refused:
        save(folder, 1)
    assert refused.value.filename == str(folder / LAST)
    assert not folder.exists()


@pytest.mark.slow
def test_a_program_that_is_killed_at_any_time_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """SIGKILL at a hundred random times of a program that does nothing but save."""
    draw = random.Random(0)
    save(tmp_path, 0, 200_000)
    before = 0
    for _ in range(100):
        child = os.fork()
        if child == 0:
            for number in range(before + 1, 10**9):
                save(tmp_path, number, 200_000)
        time.sleep(draw.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        path, _said = resumable(tmp_path)
        assert path is not None
        assert load(path) >= before - 1  # no more than the one that was being written is lost
        before = load(path)
    assert before > 0
    assert set(os.listdir(tmp_path)) <= {LAST, PREVIOUS}
