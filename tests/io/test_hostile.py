"""Readers that are handed anything say what is wrong and what to do; a failed write loses nothing."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from disk import room
from hypothesis import given
from hypothesis import strategies as st

from splatdistill.errors import UserError
from splatdistill.gaussians import Gaussians
from splatdistill.io.atomic import replacing
from splatdistill.io.ply import load_ply, write_ply
from splatdistill.io.points import read_points
from splatdistill.io.table import escape, unescape, write_table

NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
LITTLE, BIG, ASCII = "format binary_little_endian 1.0", "format binary_big_endian 1.0", "format ascii 1.0"


def splats(n: int = 8) -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng),
        quats=torch.nn.functional.normalize(torch.randn(n, 4, generator=rng), dim=1),
        scales=torch.full((n, 3), 0.1),
        opacities=torch.full((n,), 0.5),
        sh=torch.zeros(n, 1, 3),
    )


def ply(*lines: str, body: bytes = b"") -> bytes:
    return ("\n".join(["ply", *lines, "end_header"]) + "\n").encode("latin-1") + body


def floats(names: list[str], kind: str = "float") -> list[str]:
    return [f"property {kind} {n}" for n in names]


ROW = np.array([0, 0, 0, 0, 0, 0, 0, -2, -2, -2, 1, 0, 0, 0], "<f4").tobytes()
GOOD = ply(LITTLE, "element vertex 1", *floats(NAMES), body=ROW)
BAD = {
    "empty": (b"", "begin with"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "begin with"),
    "text": (b"plywood is not a file format\n", "begin with"),
    "header without end": (b"ply\n" + LITTLE.encode() + b"\nelement vertex 3\n", "truncated"),
    "endless line": (b"ply\n" + b"x" * 1_000_000, "end_header"),
    "endless header": (b"ply\n" + b"comment y\n" * 100_000, "end_header"),
    "no format": (ply("element vertex 1", *floats(NAMES), body=ROW), "format"),
    "unknown format": (ply("format binary_middle_endian 1.0", "element vertex 1"), "understand format"),
    "no vertices": (ply(LITTLE, "element face 3", "property list uchar int vertex_indices"), "no element vertex"),
    "negative count": (ply(LITTLE, "element vertex -3", *floats(NAMES)), "not understood"),
    "huge count": (ply(LITTLE, "element vertex 99999999999999999", *floats(NAMES), body=ROW), "truncated"),
    "huge ascii count": (ply(ASCII, "element vertex 99999999999", *floats(NAMES), body=b"0 " * 14), "truncated"),
    "count beyond integers": (ply(LITTLE, "element vertex " + "9" * 40, *floats(NAMES)), "not understood"),
    "truncated rows": (GOOD[:-1], "truncated"),
    "truncated ascii": (ply(ASCII, "element vertex 2", *floats(NAMES), body=b"0.000 " * 14 + b"\n"), "truncated"),
    "words in ascii": (ply(ASCII, "element vertex 1", *floats(NAMES), body=b"zero " * 14), "numbers"),
    "twice the same": (ply(LITTLE, "element vertex 1", *floats([*NAMES, "x"]), body=ROW * 2), "same name"),
    "list of a vertex": (ply(LITTLE, "element vertex 1", "property list uchar float x", body=ROW), "no y, z"),
    "unknown type": (ply(LITTLE, "element vertex 1", "property quaternion q", body=ROW), "'quaternion'"),
    "wrong type": (ply(LITTLE, "element vertex 1", *floats(NAMES, "int"), body=ROW), "should be float or double"),
    "missing property": (ply(LITTLE, "element vertex 1", *floats(NAMES[:-1]), body=ROW), "no rot_3"),
    "points": (ply(LITTLE, "element vertex 1", *floats(NAMES[:3]), body=ROW), "does not hold Gaussian splats"),
    "odd harmonics": (ply(LITTLE, "element vertex 1", *floats([*NAMES, "f_rest_0"]), body=ROW + ROW), "f_rest"),
    "compressed": (ply(LITTLE, "element vertex 1", "property uint packed_position", body=ROW), "compressed and it has no element chunk"),
    "no rows": (ply(LITTLE, "element vertex 0", *floats(NAMES)), "no usable"),
    "rotation of length 0": (GOOD[:-16] + bytes(16), "1 of 1 rows"),
    "infinite scale": (GOOD[:-28] + np.array([500], "<f4").tobytes() + GOOD[-24:], "1 with a size that is not finite"),
}


FACES = np.array([(3, (0, 1, 2)), (3, (2, 1, 0))], [("n", "u1"), ("i", "<i4", 3)]).tobytes()
LIST = "property list uchar int vertex_indices"


@pytest.mark.parametrize("order", [LITTLE, BIG, ASCII])
@pytest.mark.parametrize("comment", [[], ["comment caf\xe9"]])
def test_meshes_whose_faces_come_first_and_vertices_with_lists(tmp_path: Path, order: str, comment: list[str]) -> None:
    """Lists are skipped exactly, whatever is behind the vertices; plain numbers of rows with lists are theirs."""
    head = [order, *comment, "element face 2", LIST, "element edge 1", "property short a", "element vertex 2", *floats(["x", "y", "z"])]
    swap = (lambda data: np.frombuffer(data, "<f4").astype(">f4").tobytes()) if order == BIG else bytes
    values = np.array([[1, 2, 3], [4, 5, 6]], "<f4")
    faces = FACES if order == LITTLE else b"".join(b"\3" + np.array(i, ">i4").tobytes() for i in ((0, 1, 2), (2, 1, 0)))
    body = faces + bytes(2) + swap(values.tobytes())
    if order == ASCII:
        body = b"3 0 1 2\n1 0\n7\n1 2 3\n4 5 6\n"
    (tmp_path / "a.ply").write_bytes(ply(*head, "element tail 99", LIST, body=body + b"torn"))
    assert read_points(tmp_path / "a.ply").xyz.tolist() == values.tolist()
    head = [order, *comment, "element vertex 2", "property float x", LIST, *floats(["y", "z"]), "element face 7", LIST]
    rows = [swap(v[:1].tobytes()) + b"\1" + bytes(4) + swap(v[1:].tobytes()) for v in values]
    body = b"1 0 2 3\n4 2 9 9 5 6\n" if order == ASCII else b"".join(rows)
    (tmp_path / "b.ply").write_bytes(ply(*head, body=body))
    assert read_points(tmp_path / "b.ply").xyz.tolist() == values.tolist()


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("first", [b"ply", b"ply  ", b"\xef\xbb\xbfply"])
def test_headers_of_every_system(tmp_path: Path, line: bytes, first: bytes) -> None:
    head, _, body = GOOD.partition(b"end_header\n")
    data = (first + head[3:]).replace(b"\n", line) + b"end_header" + line
    (tmp_path / "a.ply").write_bytes(data + b"\n\r\n\r" + body[4:])  # x begins with what might end a line
    x = np.frombuffer(b"\n\r\n\r", "<f4")[0]
    assert load_ply(tmp_path / "a.ply", up="raw").strict().means.tolist() == [[x, 0, 0]]


def test_the_good_file_is_good(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(GOOD)
    assert len(load_ply(path).strict()) == 1


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_explained(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(BAD[what][0])
    with pytest.raises(UserError, match=BAD[what][1]) as caught:
        load_ply(path).strict()
    assert str(path) in str(caught.value)


def test_what_is_not_a_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        load_ply(tmp_path / "missing.ply").strict()
    with pytest.raises(UserError, match="not a file"):
        load_ply(tmp_path).strict()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a file"):  # and does not wait for a writer
        load_ply(tmp_path / "pipe").strict()


@given(st.binary(max_size=300), st.integers(0, len(GOOD)))
def test_no_bytes_do_anything_else(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.ply"
    path.write_bytes(GOOD[:at] + noise + GOOD[at + len(noise) :])
    for read in (load_ply, read_points):
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error)


def test_nan_rows_are_counted_and_dropped_on_demand(tmp_path: Path) -> None:
    rows = np.tile(np.frombuffer(ROW, "<f4"), (5, 1))
    rows[1, 0], rows[3, 6] = np.nan, np.nan
    path = tmp_path / "a.ply"
    path.write_bytes(ply(LITTLE, "element vertex 5", *floats(NAMES), body=rows.tobytes()))
    with pytest.raises(UserError, match=r"2 of 5 rows.*--init\.drop-invalid"):
        load_ply(path).strict()
    assert len(load_ply(path).strict(drop_invalid=True)) == 3


def test_points_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    xyz = ["property float x", "property float y", "property double z"]
    colours = floats(["red", "green", "blue"], "uchar")
    row = np.array([(1, 2, 3, 255, 0, 51)], "<f4,<f4,<f8,u1,u1,u1").tobytes()
    path.write_bytes(ply(LITTLE, "element vertex 1", *xyz, *colours, "element face 1", body=row + b"anything"))
    got = read_points(path)
    assert got.xyz.tolist() == [[1, 2, 3]] and got.rgb is not None
    torch.testing.assert_close(got.rgb, torch.tensor([[1.0, 0.0, 0.2]]))
    rows = b"1 2 3 255 0 51\r\n4 5 6 0 0 0\r\n"
    path.write_bytes(ply(ASCII, "element vertex 2", *xyz, *colours, body=rows))
    torch.testing.assert_close(read_points(path).xyz, torch.tensor([[1.0, 2, 3], [4, 5, 6]]).double())
    swapped = np.array([(1, 2, 3)], ">f4,>f4,>f8").tobytes()
    camera = ["element camera 2", "property short a"]
    path.write_bytes(ply(BIG, *camera, "element vertex 1", *xyz, body=b"abcd" + swapped))
    got = read_points(path)
    assert got.xyz.tolist() == [[1, 2, 3]] and got.rgb is None
    body = np.array([1, 2, 3, 4, np.nan, 6], "<f4").tobytes()
    path.write_bytes(ply(LITTLE, "element vertex 2", *floats(["x", "y", "z"]), body=body))
    with pytest.raises(UserError, match="1 of 2 points"):
        read_points(path)
    assert len(read_points(path, drop_invalid=True).xyz) == 1


@given(st.text())
def test_escaping_is_one_line_of_ascii_and_reversible(text: str) -> None:
    line = escape(text)
    assert line.isascii() and len(line.splitlines()) <= 1 and "end_header" not in line and "element vertex" not in line
    assert unescape(line) == text


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, splats(2))
    before = path.read_bytes()
    with room(10_000), pytest.raises(UserError, match="as it was before"):
        write_ply(path, splats(1000))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.ply"]


def test_anything_that_stops_a_write_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the n", encoding="utf-8")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_writing_replaces_keeps_links_and_makes_folders(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "er" / "a.ply", tmp_path / "link.ply"
    write_ply(target, splats(2))
    link.symlink_to(target)
    write_ply(link, splats(3))
    assert link.is_symlink() and len(load_ply(target).strict()) == 3
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_what_is_in_the_way_is_explained(tmp_path: Path) -> None:
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(UserError, match="folder of that name"):
        write_ply(tmp_path / "folder.ply", splats())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write"):
        write_ply(tmp_path / "file" / "a.ply", splats())


def test_a_header_that_nobody_could_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="header"):
        write_table(tmp_path / "a.ply", np.zeros(1, [("x", "<f4")]), ["c" * 70_000])
    assert not os.listdir(tmp_path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
