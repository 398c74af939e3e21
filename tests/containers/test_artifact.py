"""Model archives, honest ones and others."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from pathlib import Path

import pytest

from clary.containers import artifact
from clary.containers.artifact import open_model, pack, regular_files
from clary.errors import ArtifactError


def archive(path: Path, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    """A tar.gz with these members; regular ones get `content`."""
    with tarfile.open(path, "w:gz") as out:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            out.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """A member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_what_was_packed_is_found_again(tmp_path: Path) -> None:
    """Files in sub-folders come back, with members at the root of the archive."""
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "model/a").write_bytes(b"1")
    (tmp_path / "model/sub/b").write_bytes(b"2")
    pack(tmp_path / "model", tmp_path / "out.tar.gz")

    with open_model(tmp_path / "out.tar.gz") as folder:
        assert (folder / "a").read_bytes() + (folder / "sub/b").read_bytes() == b"12"
    assert not folder.exists()


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    """Neither the clock nor who packs shows in an archive."""
    (tmp_path / "model").mkdir()
    for name in ("first", "second"):
        (tmp_path / "model/a").write_bytes(b"1")
        os.utime(tmp_path / "model/a", (time.time() - len(name), len(name)))
        pack(tmp_path / "model", tmp_path / name)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def strange(folder: Path) -> Path:
    """A folder as somebody leaves it who wants to have files that are not his."""
    (folder / "secret").mkdir(parents=True)
    (folder / "secret/key").write_bytes(b"secret")
    model = folder / "root/model"
    (model / "sub").mkdir(parents=True)
    (model / "a").write_bytes(b"1")
    (model / "sub/b").write_bytes(b"2")
    (model / "sub/link").symlink_to(folder / "secret/key")
    (model / "sub/relative").symlink_to("../a")
    (model / "folder").symlink_to(folder / "secret")
    (model / "dangling").symlink_to("nowhere")
    os.mkfifo(model / "fifo")
    return model


def test_links_are_not_packed_nor_what_is_behind_them(tmp_path: Path) -> None:
    """No file of the machine gets into an archive by way of a link, and nothing waits for a FIFO."""
    assert pack(strange(tmp_path), tmp_path / "out.tar.gz") == 2

    with tarfile.open(tmp_path / "out.tar.gz") as found:
        assert found.getnames() == ["a", "sub/b"]


@pytest.mark.parametrize("place", ["model", "root"])
def test_a_folder_behind_a_link_is_empty(tmp_path: Path, place: str) -> None:
    """Neither the folder nor one on the way to it may be a link; what is above them may."""
    model = strange(tmp_path)
    (tmp_path / "above").symlink_to(tmp_path / "root")
    assert [name for name, _ in regular_files(tmp_path / "above/model", tmp_path / "above")] == ["a", "sub/b"]
    moved = model if place == "model" else model.parent
    moved.rename(tmp_path / "moved")
    moved.symlink_to(tmp_path / "moved")

    assert list(regular_files(model, tmp_path)) == []
    assert pack(model, tmp_path / "out.tar.gz", tmp_path) == 0


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """A job may have removed it."""
    assert list(regular_files(tmp_path / "a/b", tmp_path)) == []


def test_files_that_go_while_they_are_read_are_passed_over(tmp_path: Path) -> None:
    """Whoever fills the folder may go on; a folder that becomes a link is not entered."""
    model = strange(tmp_path)
    found = regular_files(model)
    names = [next(found)[0]]
    (model / "sub").rename(tmp_path / "moved")
    (model / "sub").symlink_to(tmp_path / "secret")

    assert names + [name for name, _ in found] == ["a"]


def test_a_directory_is_a_model_as_it_is(tmp_path: Path) -> None:
    """Nothing is copied where nothing is packed."""
    with open_model(tmp_path) as folder:
        assert folder == tmp_path


@pytest.mark.parametrize(
    "evil",
    [
        member("../out"),
        member("/tmp/clary-was-here"),  # noqa: S108
        member("a/../../out"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "model"),
        member("device", tarfile.CHRTYPE),
        member("fifo", tarfile.FIFOTYPE),
    ],
    ids=lambda info: info.name,
)
def test_members_that_lead_out_or_are_no_files_are_refused(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    """A stranger's archive writes nothing but regular files in its own folder."""
    path = archive(tmp_path / "evil.tar.gz", evil)
    with pytest.raises(ArtifactError, match=r"which (leads out|is neither)"), open_model(path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.gz"]


def test_a_name_that_the_disk_does_not_take_is_refused(tmp_path: Path) -> None:
    """An archive that cannot be unpacked is the archive's fault."""
    path = archive(tmp_path / "long.tar.gz", member("x" * 300))
    with pytest.raises(ArtifactError, match=r"long\.tar\.gz holds a file whose name is too long"), open_model(path):
        pass


def test_an_unpacked_model_goes_by_the_name_of_its_archive(tmp_path: Path) -> None:
    """What is wrong with the content is said of the file that the user knows."""
    path = archive(tmp_path / "x.tar.gz", member("a"))
    with pytest.raises(ArtifactError, match=rf"^no model in {path}/a$"), open_model(path) as folder:
        raise ArtifactError(f"no model in {folder}/a")


def test_size_and_number_of_members_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to too much is refused before the disk is full."""
    monkeypatch.setattr(artifact, "MAX_BYTES", 1 << 20)
    path = archive(tmp_path / "bomb.tar.gz", member("zeros"), content=bytes(2 << 20))
    assert path.stat().st_size < 10_000
    with pytest.raises(ArtifactError, match="too large"), open_model(path):
        pass


def test_a_name_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """A header that claims to be huge is refused before memory is taken for it."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path = tmp_path / "name.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(10 << 20)))
    with pytest.raises(ArtifactError, match="a header of 1073741824 bytes"), open_model(path):
        pass


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no archive", mtime=0)])
def test_what_is_no_archive_gets_a_sentence(tmp_path: Path, content: bytes) -> None:
    """Whatever the library raises, the user reads that it is no tar.gz."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"is no tar\.gz archive"), open_model(tmp_path / "x"):
        pass


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    """Half a download is no model."""
    path = archive(tmp_path / "x", member("a"), content=os.urandom(100_000))
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(ArtifactError, match="damaged"), open_model(path):
        pass
