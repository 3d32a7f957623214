"""`utils.get_file`: the cache, the sums, and archives that are not to be trusted."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from minikeras import config
from minikeras.datasets import files
from minikeras.utils import archives, data_utils, get_file


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def served(tmp_path):
    """A file in reach of the network."""
    (tmp_path / "server").mkdir()
    path = tmp_path / "server" / "data.bin"
    path.write_bytes(b"content" * 1000)
    return path


def sums(path):
    content = path.read_bytes()
    return hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_tar(path, members, mode="w:gz"):
    """Members are bytes, None for a folder, or a function that changes the TarInfo."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
            elif content is None:
                member.type = tarfile.DIRTYPE
            else:
                content(member)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_fetched_once(cache, served, capsys):
    path = get_file("own.bin", served.as_uri())
    assert path == str(cache / "datasets" / "own.bin") and os.path.getsize(path) == 7000
    assert capsys.readouterr().err == f"Downloading {served.as_uri()}\n"
    served.write_bytes(b"new")
    assert get_file("own.bin", served.as_uri()) == path and os.path.getsize(path) == 7000
    assert get_file("own.bin", served.as_uri(), force_download=True) == path and os.path.getsize(path) == 3
    assert listing(cache) == ["datasets", "datasets/own.bin"]


def test_places(cache, served, tmp_path):
    assert get_file(origin=served.as_uri() + "#part") == str(cache / "datasets" / "data.bin")
    assert get_file(origin=served.as_uri(), cache_subdir="deep/er") == str(cache / "deep" / "er" / "data.bin")
    absolute = str(tmp_path / "absolute")
    assert get_file(origin=served.as_uri(), cache_subdir=absolute) == os.path.join(absolute, "data.bin")
    assert get_file(origin=served.as_uri(), cache_dir=tmp_path / "b") == str(tmp_path / "b" / "datasets" / "data.bin")


@pytest.mark.parametrize("algorithm", ["auto", "sha256", "md5"])
def test_sums(cache, served, algorithm, capsys):
    sha256, md5 = sums(served)
    right = md5 if algorithm == "md5" else sha256
    path = get_file(origin=served.as_uri(), file_hash=right.upper(), hash_algorithm=algorithm)
    assert get_file(origin=served.as_uri(), md5_hash=md5) == path
    assert data_utils.validate_file(path, sha256) and data_utils.validate_file(path, md5)
    assert data_utils.hash_file(path) == sha256 and data_utils._hash_file(path, "md5", 16) == md5
    assert not data_utils.validate_file(path, md5, "sha256")
    with open(path, "ab") as file:
        file.write(b"outdated")
    capsys.readouterr()
    assert get_file(origin=served.as_uri(), file_hash=right, hash_algorithm=algorithm) == path
    assert "has another sum" in capsys.readouterr().out and os.path.getsize(path) == 7000


def test_another_sum_is_refused_and_leaves_nothing(cache, served):
    sha256, md5 = sums(served)
    for wrong in (sha256[:-1] + "x", md5[:-1] + "x", "123"):
        with pytest.raises(ValueError, match=r"Incomplete or corrupted file: .*sum of the download is .* expected"):
            get_file(origin=served.as_uri(), file_hash=wrong)
    assert listing(cache) == ["datasets"]
    path = get_file(origin=served.as_uri())
    with pytest.raises(ValueError, match="sum of the download"):  # what is there stays
        get_file(origin=served.as_uri(), file_hash="0" * 64)
    assert os.path.getsize(path) == 7000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "got origin=None"),
        ({"origin": "https://example.org"}, "ends without the name of a file"),
        ({"fname": "a/b", "origin": "https://example.org/x"}, "Paths are not accepted as fname, got 'a/b'"),
        ({"fname": "..", "origin": "https://example.org/x"}, "Paths are not accepted"),
        ({"origin": "ftp://example.org/x"}, "begins with https:, http: or file:, got 'ftp://example.org/x'"),
        ({"origin": "data:text/plain,x"}, "begins with https:, http: or file:"),
        ({"origin": "https://example.org/x", "hash_algorithm": "crc"}, "must be 'auto', 'sha256' or 'md5', got 'crc'"),
    ],
)
def test_refused_arguments(cache, arguments, message):
    with pytest.raises(ValueError, match=message):
        get_file(**arguments)


def test_a_missing_file_is_said(cache, served):
    with pytest.raises(OSError, match=r"nothing\.bin could not be fetched: .*No such file"):
        get_file(origin=served.with_name("nothing.bin").as_uri())
    assert listing(cache) == ["datasets"]


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/gone":
            return self.send_error(404, "Not here")
        self.send_response(302 if self.path == "/moved" else 200)
        if self.path == "/moved":
            self.send_header("Location", "file:///etc/passwd")
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * (40 if self.path == "/short" else 100))
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server(cache, address, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert os.path.getsize(get_file(origin=f"{address}/a/whole?version=1/2#part")) == 100
    with pytest.raises(OSError, match="could not be fetched: 404 Not here"):
        get_file("gone", f"{address}/gone")
    with pytest.raises(OSError, match="could not be fetched: the transfer broke off"):
        get_file("short", f"{address}/short")
    with pytest.raises(OSError, match="could not be fetched"):  # from the network to the disk
        get_file("moved", f"{address}/moved")
    assert listing(cache) == ["datasets", "datasets/whole"]


MEMBERS = {"things/a.txt": b"a", "things/deep/b.txt": b"b" * 2000, "c.txt": b"c"}
UNPACKED = ["c.txt", "things", "things/a.txt", "things/deep", "things/deep/b.txt"]


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_unpacking(cache, tmp_path, kind):
    path = tmp_path / "pack.any"
    write_zip(path, MEMBERS) if kind == "zip" else write_tar(path, MEMBERS, kind)
    folder = get_file("pack.tar.any", path.as_uri(), extract=True)
    assert (
        folder == str(cache / "datasets" / "pack_extracted") and listing(cache / "datasets/pack_extracted") == UNPACKED
    )
    assert (cache / "datasets/pack_extracted/c.txt").read_bytes() == b"c"
    assert listing(cache / "datasets")[0] == "pack.tar.any" and (cache / "datasets/pack.tar.any").is_file()
    assert get_file("pack", path.as_uri(), extract=True) == str(cache / "datasets" / "pack")
    assert (cache / "datasets/pack_archive").is_file() and listing(cache / "datasets/pack") == UNPACKED
    assert get_file(None, path.as_uri(), extract=True) == str(cache / "datasets" / "pack.any")
    assert not [name for name in listing(cache) if ".part" in name]


def test_unpacking_again(cache, tmp_path):
    path = write_tar(tmp_path / "pack.tar", MEMBERS)
    folder = cache / "datasets" / "pack"
    get_file("pack", path.as_uri(), untar=True)
    (folder / "own.txt").write_text("mine")
    (folder / "c.txt").write_text("changed")
    get_file("pack", path.as_uri(), untar=True)
    assert (folder / "c.txt").read_text() == "changed"  # nothing was fetched, so nothing is unpacked
    write_tar(path, {"c.txt": b"new", "things/deep/d.txt": b"d"})
    get_file("pack", path.as_uri(), untar=True, force_download=True)
    assert (folder / "c.txt").read_text() == "new" and (folder / "own.txt").read_text() == "mine"
    assert listing(folder) == ["c.txt", "own.txt", *UNPACKED[1:], "things/deep/d.txt"]


def test_what_is_not_unpacked(cache, served, tmp_path):
    with pytest.warns(UserWarning, match="not an archive of the format 'auto'"):
        assert get_file("own", served.as_uri(), extract=True) == str(cache / "datasets" / "own")
    path = write_zip(tmp_path / "pack.zip", MEMBERS)
    for archive_format in ("tar", None, []):
        with pytest.warns(UserWarning, match="nothing was unpacked"):
            get_file("pack.zip", path.as_uri(), extract=True, archive_format=archive_format)
    with pytest.raises(ValueError, match="archive_format must be 'auto', 'tar', 'zip' or None, got 'rar'"):
        get_file("pack.zip", path.as_uri(), extract=True, archive_format="rar")
    assert not (cache / "datasets" / "pack_extracted").exists()
    get_file("taken", served.as_uri())
    with pytest.raises(ValueError, match="which is a file; pass another fname"):
        get_file("taken", path.as_uri(), extract=True)


def symbolic(target, kind=tarfile.SYMTYPE):
    def change(member):
        member.type, member.linkname = kind, target

    return change


def device(member):
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3


EVIL = {
    "parent": {"../evil": b"x"},
    "absolute": {"/tmp/evil": b"x"},
    "hidden parent": {"a/../../evil": b"x"},
    "backslashes": {"a\\..\\..\\evil": b"x"},
    "the folder's name as a prefix": {"../aside_evil/x": b"x"},
}


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize("name", EVIL)
def test_nothing_leaves_the_folder(tmp_path, kind, name):
    members = {"good": b"x", **EVIL[name]}
    path = (write_tar if kind == "tar" else write_zip)(tmp_path / "evil.pack", members)
    with pytest.raises(ValueError, match=r"outside of its folder, which is refused; do not trust it\."):
        archives.unpack(path, tmp_path / "in" / "folder")
    assert listing(tmp_path) == ["evil.pack", "in"]


@pytest.mark.parametrize(
    "member",
    [symbolic("../../etc"), symbolic("/etc/passwd"), symbolic("../evil.pack", tarfile.LNKTYPE), device],
    ids=["parent", "absolute", "hard link", "device"],
)
def test_links_out_of_the_folder_and_devices_are_refused(tmp_path, member):
    path = write_tar(tmp_path / "evil.pack", {"good": b"x", "deep/link": member, "deep/link/x": b"x"})
    with pytest.raises(ValueError, match="do not trust it"):
        archives.unpack(path, tmp_path / "folder")
    assert listing(tmp_path) == ["evil.pack"]


def test_links_inside_are_left_out(tmp_path):
    link = symbolic("a.txt")
    path = write_tar(
        tmp_path / "pack.tar", {"deep/a.txt": b"a", "deep/link": link, "other": symbolic("deep/a.txt", b"1")}
    )
    with pytest.warns(UserWarning, match="has links, such as 'deep/link'; they are left out"):
        archives.unpack(path, tmp_path / "folder")
    assert listing(tmp_path / "folder") == ["deep", "deep/a.txt"]
    # what comes through a link comes into a folder of its name
    write_tar(path, {"a": None, "through": symbolic("a"), "through/x": b"x"})
    with pytest.warns(UserWarning, match="left out"):
        archives.unpack(path, tmp_path / "second")
    assert listing(tmp_path / "second") == ["a", "through", "through/x"]
    assert not (tmp_path / "second" / "through").is_symlink()


def test_links_in_zip_archives(tmp_path):
    for target, refused in (("a.txt", False), ("../../etc/passwd", True), ("/etc/passwd", True), ("x" * 5000, True)):
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        path = write_zip(tmp_path / "pack.zip", {"a.txt": b"a"})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(link, target)
        if refused:
            with pytest.raises(ValueError, match="do not trust it"):
                archives.unpack(path, tmp_path / "refused")
        else:
            with pytest.warns(UserWarning, match="left out"):
                archives.unpack(path, tmp_path / "folder")
    assert listing(tmp_path) == ["folder", "folder/a.txt", "pack.zip"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_bombs_are_refused(tmp_path, kind, monkeypatch):
    path = (write_tar if kind == "tar" else write_zip)(tmp_path / "bomb", {"zeros": bytes(1 << 20)})
    monkeypatch.setattr(archives, "SMALL", 1 << 16)
    with pytest.raises(ValueError, match=r"unpacks to more than .* bytes, which is refused"):
        archives.unpack(path, tmp_path / "folder")
    monkeypatch.setattr(archives, "SMALL", 1 << 21)
    monkeypatch.setattr(archives, "LARGEST", 1 << 19)
    with pytest.raises(ValueError, match="unpacks to more than 524288 bytes"):
        archives.unpack(path, tmp_path / "folder")
    monkeypatch.setattr(archives, "LARGEST", 1 << 21)
    assert archives.unpack(path, tmp_path / "folder")
    many = (write_tar if kind == "tar" else write_zip)(tmp_path / "many", {f"f{i}": b"" for i in range(200)})
    monkeypatch.setattr(archives, "SMALL", 1 << 16)
    monkeypatch.setattr(archives, "RATIO", 1)
    with pytest.raises(ValueError, match=r"unpacks to more than|its directory has 9890 bytes, 2048 are the most"):
        archives.unpack(many, tmp_path / "folder of many")
    assert listing(tmp_path) == ["bomb", "folder", "folder/zeros", "many"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_damaged_archives_are_refused_and_leave_nothing(tmp_path, kind):
    content = {"a": os.urandom(5000), "b": os.urandom(5000)}
    path = (write_tar if kind == "tar" else write_zip)(tmp_path / "pack", content)
    damaged = bytearray(path.read_bytes())
    if kind == "tar":
        damaged = damaged[:7000]
    else:
        damaged[3000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="pack is damaged"):
        archives.unpack(path, tmp_path / "folder")
    assert listing(tmp_path) == ["pack"]


def test_the_cache_of_a_user_without_a_home(tmp_path, monkeypatch, served):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(data_utils.tempfile, "gettempdir", lambda: str(tmp_path))
    path = get_file(origin=served.as_uri())
    folder = tmp_path / f"keras-{os.getuid()}"
    assert path == str(folder / "datasets" / "data.bin") and stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(OSError, match="file"):
        get_file(origin=served.as_uri(), cache_dir=tmp_path / "file")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        get_file(origin=served.as_uri())
    assert config.keras_home() == tmp_path / "file"


def test_a_closed_standard_error_stream_does_not_matter(cache, served, monkeypatch):
    stream = io.StringIO()
    stream.close()
    for broken in (stream, None):
        monkeypatch.setattr(files.sys, "stderr", broken)
        get_file(origin=served.as_uri(), force_download=True)


def test_the_progress_line(cache, served, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(files.sys, "stderr", terminal)
    get_file(origin=served.as_uri())
    assert terminal.getvalue().split("\r")[-1].rstrip() == f"Downloading {served.as_uri()} 0.0 MB (100 %)"
