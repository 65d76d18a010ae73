"""Archives by anybody: what is taken, what is left out and why, what is refused whole."""

from __future__ import annotations

import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from services.consumer.reading import Member, Skipped, extract_member, list_members
from shared.errors import InvalidInput

ENDINGS = (".tif", ".png", ".zarr.zip")
DATA = bytes(range(256)) * 40


def make_zip(path: Path, names: list[str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, DATA)
    return path


def make_tar(path: Path, names: list[str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(DATA)
            archive.addfile(info, io.BytesIO(DATA))
    return path


def listed(path: Path, most: int = 100, most_bytes: int = 10**9) -> tuple[list[Member], list[Skipped]]:
    return list_members(path, ENDINGS, most, most_bytes, path.parent)


NAMES = ["a.tif", "folder/in/folder/ü ß?*.PNG", "x.ome.tif", "0/a.tif", "y.zarr.zip", "n" * 200 + ".tif"]


@pytest.mark.parametrize("kind", ["stored", "deflated", "tar.gz", "tar"])
def test_images_are_found_and_come_out_whole(tmp_path: Path, kind: str) -> None:
    if kind.startswith("tar"):
        archive = make_tar(tmp_path / "a", [*NAMES, "./b/./c.tif"], "w:gz" if kind == "tar.gz" else "w")
    else:
        method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
        archive = make_zip(tmp_path / "a", [*NAMES, "b\\c.tif"], method)
    members, skipped = listed(archive)
    assert [member.name for member in members] == [*NAMES, "b/c.tif"]
    assert skipped == []
    for member in members:
        extract_member(archive, member, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == DATA


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_that_are_no_utf8_become_text_that_can_be_written(tmp_path: Path, form: int) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=form, encoding="latin-1") as archive:
        info = tarfile.TarInfo("Zellen für/ä.tif")
        info.size = len(DATA)
        archive.addfile(info, io.BytesIO(DATA))
    ((member,), _) = listed(path)
    assert member.name in {"Zellen für/ä.tif", "Zellen f\ufffdr/\ufffd.tif"}
    extract_member(path, member, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == DATA


def test_an_endless_list_of_files_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4_000):
            archive.writestr(zipfile.ZipInfo(f"{number}/"), b"")  # folders, which are not counted
    with pytest.raises(InvalidInput) as refused:
        listed(path, most=10)
    assert refused.value.code == "too-many-members"


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_folders_are_many_too(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for number in range(20):
            folder = tarfile.TarInfo(f"{number}")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
    assert listed(path, most=20) == ([], [])
    with pytest.raises(InvalidInput) as refused:
        listed(path, most=19)
    assert refused.value.code == "too-many-members"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_of_an_endless_name_only_the_beginning_is_kept(tmp_path: Path, kind: str) -> None:
    name = "n" * 20_000 + ".tif"
    path = tmp_path / f"a.{kind}"
    make_zip(path, [name]) if kind == "zip" else make_tar(path, [name], "w")
    members, (skipped,) = listed(path)
    assert (members, skipped.reason) == ([], "its name is too long")
    assert len(skipped.name) <= 200


def test_an_unpacked_tar_goes_with_its_members(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", NAMES)
    members, _ = listed(archive)
    assert len(list(tmp_path.iterdir())) == 2
    del members
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../a.tif", "leads out"),
        ("b/../../a.tif", "leads out"),
        ("/etc/a.tif", "leads out"),
        ("C:\\a.tif", "leads out"),
        ("..\\a.tif", "leads out"),
        ("notes.txt", "not an image"),
        ("more.zip", "an archive within"),
        ("more.tar.gz", "an archive within"),
        ("__MACOSX/._a.tif", "macOS"),
        ("._a.tif", "macOS"),
        ("b.tif", "a second file"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_left_out_is_listed_with_the_reason(tmp_path: Path, kind: str, name: str, reason: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    members, skipped = listed(make(tmp_path / "a", ["b.tif", name]))
    assert [member.name for member in members] == ["b.tif"]
    assert len(skipped) == 1
    assert reason in skipped[0].reason


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link.tif")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo(f"{kind.decode()}.tif")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    assert listed(tmp_path / "a.zip") == ([], [Skipped("link.tif", "a link")])
    members, skipped = listed(tmp_path / "a.tar.gz")
    assert members == []
    assert [one.reason for one in skipped] == ["a link", "a link", "not a plain file", "not a plain file"]


def test_encrypted_and_unknown_methods_are_left_out(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", ["a.tif"]).read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert listed(tmp_path / "a.zip")[1] == [Skipped("a.tif", "encrypted")]
    make_zip(tmp_path / "b.zip", ["b.tif"], zipfile.ZIP_LZMA)
    assert "compressed in a way" in listed(tmp_path / "b.zip")[1][0].reason


def test_too_many_too_large_or_none(tmp_path: Path) -> None:
    for archive in (make_zip(tmp_path / "a.zip", NAMES), make_tar(tmp_path / "a.tar.gz", NAMES)):
        with pytest.raises(InvalidInput, match="KIOSK_LIMITS__ARCHIVE_MEMBERS"):
            listed(archive, most=5)
        with pytest.raises(InvalidInput, match="KIOSK_LIMITS__ARCHIVE_BYTES"):
            listed(archive, most_bytes=5 * len(DATA))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InvalidInput, match="is no archive"):
        listed(tmp_path / "text")


def test_a_gzip_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a.tif")
        info.size = 50_000_000
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(InvalidInput, match="unpacks to more"):
        listed(tmp_path / "a.tar.gz", most_bytes=10_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_member_that_claims_too_much_is_left_out(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", ["a.tif"]).read_bytes())
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 500_000_000)
    (tmp_path / "a.zip").write_bytes(data)
    assert "times its size" in listed(tmp_path / "a.zip")[1][0].reason


def test_members_that_share_bytes_are_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "a.zip", ["a.tif", "b.tif"]).read_bytes())
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"overlap|damaged"):
        listed(tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_truncated_archives_are_refused(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a"
    data = (make_zip(archive, NAMES) if kind == "zip" else make_tar(archive, NAMES, f"w:{kind[4:]}")).read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInput, match="damaged"):
        listed(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bytes_are_noticed(tmp_path: Path, method: int) -> None:
    archive = make_zip(tmp_path / "a.zip", ["a.tif"], method)
    (member,), _ = listed(archive)
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"a\.tif cannot be unpacked"):
        extract_member(archive, member, tmp_path / "out")


def test_a_tar_with_a_huge_extended_header_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.tif")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(1 << 31)
    with pytest.raises(InvalidInput, match="damaged"):
        listed(tmp_path / "a.tar")
