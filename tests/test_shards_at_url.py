"""data=shards at a URL: what the folder gives, fetched once, whatever the network does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import fsspec
import pytest
from conftest import run_script
from in_process import only
from test_folder_data import config as folder_config
from test_shards import files, levels, photos, samples, write

from harness.config.compose import compose_groups
from harness.config.data import FolderConfig, ImageFilesConfig, ShardsConfig
from harness.data.images.decode import read
from harness.data.images.shards import index_shards
from harness.data.sources.packing import pack
from harness.data.sources.shards_at_url import _expanded, tars_at
from harness.data.sources.table import describe, load, load_test
from harness.errors import UserError
from harness.run import remote

PIECE = 4096


class Request(NamedTuple):
    method: str
    name: str
    start: int | None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        server, name = self.server, self.path.lstrip("/")
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else None
        request = Request(self.command, name, start)
        with server.lock:
            server.requests.append(request)
            turn = sum(one[:2] == request[:2] for one in server.requests)
        if server.fault(self, request, turn):
            return
        if name == "" and server.listed:
            links = "".join(f'<a href="{other}">{other}</a>' for other in (*server.files, "../", "?C=N;O=D"))
            self.give(links.encode(), {"Content-Type": "text/html"})
        elif name not in server.files:
            self.send(404)
        else:
            content = server.files[name]
            facts = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'} if server.tags else {}
            if asked and server.ranges:
                first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
                facts["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                self.give(content[first : last + 1], facts, 206)
            else:
                self.give(content, facts)

    def send(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def give(self, content: bytes, facts: dict[str, str], status: int = 200, length: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**facts, "Content-Length": str(len(content) if length is None else length)}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def give_part(self, content: bytes, status: int = 200) -> None:
        """Promise all and end behind the first half."""
        self.give(content[: len(content) // 2], {}, status, len(content))
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


Fault = Callable[[Handler, Request, int], Any]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.fault: Fault = lambda *_: False
        self.ranges = self.tags = True
        self.listed = False
        self.requests: list[Request] = []
        self.lock = threading.Lock()

    def handle_error(self, *_: Any) -> None:
        pass  # a client that has gone

    def holds(self, folder: Path) -> None:
        names = [path for path in folder.rglob("*") if path.suffix in (".tar", ".json")]
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in names}

    def asked(self) -> set[str]:
        """The tars of which anything was asked since this was last called."""
        names = {request.name for request in self.requests if request.name.endswith(".tar")}
        self.requests.clear()
        return names


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS", (0.001,) * 5)
    monkeypatch.setattr(remote, "PIECE", PIECE)
    forget()


def forget() -> None:
    """What a new process knows."""
    tars_at.cache_clear()
    index_shards.cache_clear()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    for split, names in (("train", 12), ("val", 5)):
        photos(root / "photos" / split, [f"{n}.jpg" for n in range(names)])
    pack(folder_config(root / "photos"), root / "shards", 12_000)
    return root / "shards"


def at(root: Path | str, **changes: Any) -> FolderConfig:
    plain = {field.name: getattr(folder_config(Path("x")), field.name) for field in dataclasses.fields(FolderConfig)}
    return ShardsConfig(**{**plain, "name": "shards", "root": str(root), "download": True, **changes})


def contents(config: FolderConfig) -> list[Any]:
    """All that identifies the splits, with every byte of their pictures."""
    forget()
    splits = files(load(config))
    return [
        (split.ids, split.labels.tolist(), split.fingerprint(), [read(split.place(i)) for i in range(len(split))])
        for split in splits
    ]


def cache(tmp_path: Path) -> Path:
    return only(tmp_path / "cache" / "cnn-zoo")


def test_tars_at_a_url_are_those_of_the_folder_and_are_fetched_once(
    server: Server, packed: Path, tmp_path: Path
) -> None:
    server.holds(packed)
    tars = {name for name in server.files if name.endswith(".tar")}
    assert len(tars) > 4
    assert contents(at(f"{server.url}/")) == contents(at(packed)) and server.asked() == tars
    assert contents(at(server.url)) == contents(at(packed)) and server.asked() == set()
    forget()
    assert describe(at(server.url)) == describe(at(packed))
    copies = {path.name: path.read_bytes() for path in cache(tmp_path).glob("*.tar")}
    assert copies == {name: server.files[name] for name in tars}
    assert not list(cache(tmp_path).glob(".*.partial"))


def test_an_evaluation_fetches_the_tars_of_its_split_alone(server: Server, packed: Path) -> None:
    server.holds(packed)
    plain = load_test(at(packed))
    config = at(server.url)
    assert describe(config) == describe(at(packed)) and server.asked() == set()
    split = load_test(config)
    assert server.asked() == {name for name in server.files if name.startswith("val-")}
    assert (split.fingerprint(), split.ids, split.labels.tolist()) == (
        plain.fingerprint(),
        plain.ids,
        plain.labels.tolist(),
    )


def cut(handler: Handler, request: Request, turn: int) -> bool:
    """Every second answer ends in its middle."""
    if request.method == "GET" and request.name.endswith(".tar") and turn % 2:
        content = handler.server.files[request.name]
        part = content if request.start is None else content[request.start : request.start + PIECE]
        handler.give_part(part, 200 if request.start is None else 206)
        return True
    return False


def slow(handler: Handler, request: Request, turn: int) -> None:
    if request.name == "train-000000.tar" and turn in (1, 3):
        time.sleep(0.4)


def busy(handler: Handler, request: Request, turn: int) -> bool:
    if turn <= 2:
        handler.send(503 if turn == 1 else 429)
    return turn <= 2


def short(handler: Handler, request: Request, turn: int) -> bool:
    """Once, half a tar is said to be all of it."""
    content = handler.server.files.get(request.name, b"")
    if request.name.endswith("1.tar") and request.method == "GET" and turn == 1:
        handler.give(content[: PIECE // 2], {}, 206)
        return True
    return False


def others(handler: Handler, request: Request, turn: int) -> bool:
    """Once, a piece has other bytes."""
    if request.name.endswith("0.tar") and request.method == "GET" and turn == 2:
        handler.give(bytes(PIECE), {}, 206)
        return True
    return False


FAULTS: dict[str, Fault] = {"cut": cut, "slow": slow, "busy": busy, "short": short, "others": others}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("ranges", [True, False])
def test_no_picture_is_lost_or_counted_twice(
    fault: str, ranges: bool, server: Server, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TIMEOUT", 0.2 if fault == "slow" else 60.0)
    server.holds(packed)
    server.fault, server.ranges = FAULTS[fault], ranges
    assert contents(at(server.url)) == contents(at(packed))


@pytest.mark.parametrize("tags", [True, False])
def test_tars_of_others_by_a_pattern_survive_the_same(tags: bool, server: Server, tmp_path: Path) -> None:
    write(tmp_path / "tars" / "a-train-0.tar", samples(range(6)))
    write(tmp_path / "tars" / "a-train-1.tar", samples(range(6, 12)))
    write(tmp_path / "tars" / "val" / "0.tar", samples(range(12, 16)))
    server.holds(tmp_path / "tars")
    server.fault, server.tags = cut, tags
    pattern = server.url + "/{a-train-{0..1},val/0}.tar"
    assert contents(at(pattern)) == contents(at(tmp_path / "tars"))


def begun(server: Server, root: str) -> None:
    """Fetch until the second tar's middle, where the network ends."""

    def ends(handler: Handler, request: Request, turn: int) -> bool:
        if request.name == "train-000001.tar" and (request.start or 0) > PIECE:
            handler.send(500)
            return True
        return False

    server.fault = ends
    with pytest.raises(UserError, match=r"train-000001.tar: could not be fetched \(HTTP status 500\)") as told:
        contents(at(root))
    assert "\n" not in str(told.value)
    server.fault = lambda *_: False
    server.requests.clear()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("tags", [True, False])
def test_a_tar_that_was_cut_off_goes_on_only_if_it_is_the_same(
    changed: bool, tags: bool, server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "tars"
    write(folder / "train-000001.tar", samples(range(8)))
    write(folder / "val-000001.tar", samples(range(8, 12)))
    server.holds(folder)
    server.tags = True
    root = server.url + "/{train,val}-000001.tar"
    begun(server, root)
    server.tags = tags
    if changed:
        write(folder / "train-000001.tar", samples([7, 6, 5, 4, 3, 2, 1, 0]))
        server.holds(folder)
    assert contents(at(root)) == contents(at(folder))
    starts = [request.start for request in server.requests if request[:2] == ("GET", "train-000001.tar")]
    assert starts[0] == (2 * PIECE if tags and not changed else 0 if tags else None)
    assert len(set(starts)) == len(starts)


def test_a_tar_that_changes_between_two_pieces_is_begun_again(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "tars"
    write(folder / "train-0.tar", samples(range(8)))
    write(folder / "val-0.tar", samples(range(8, 12)))
    server.holds(folder)

    def changes(handler: Handler, request: Request, turn: int) -> None:
        if request[:2] == ("GET", "train-0.tar") and turn == 3:
            write(folder / "train-0.tar", samples([7, 6, 5, 4, 3, 2, 1, 0]))
            server.holds(folder)

    server.fault = changes
    assert contents(at(server.url + "/{train,val}-0.tar")) == contents(at(folder))
    server.requests.clear()
    contents(at(server.url + "/{train,val}-0.tar"))
    assert {request.method for request in server.requests if request.name.endswith(".tar")} == {"HEAD"}


def test_what_changed_at_the_url_is_fetched_anew(server: Server, packed: Path, tmp_path: Path) -> None:
    server.holds(packed)
    before = contents(at(server.url))
    shutil.copytree(packed.parent / "photos", tmp_path / "photos")
    changed = tmp_path / "photos" / "train" / "b.c" / "3.jpg"
    changed.write_bytes(changed.read_bytes() + b"\0")
    pack(folder_config(tmp_path / "photos"), tmp_path / "shards", 12_000)
    server.holds(tmp_path / "shards")
    server.asked()
    after = contents(at(server.url))
    asked = server.asked()
    assert after == contents(at(tmp_path / "shards")) != before
    assert asked and asked < {name for name in server.files if name.endswith(".tar")}


def test_a_tar_that_went_is_not_read_from_the_cache(server: Server, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "tars" / f"train-{number}.tar", samples(range(4 * number, 4 * number + 4)))
    write(tmp_path / "tars" / "val-0.tar", samples(range(2)))
    server.holds(tmp_path / "tars")
    server.listed = True
    assert sorted(levels(files(load(at(server.url, validation=0)))[0])) == list(range(12))
    del server.files["train-1.tar"]
    forget()
    assert sorted(levels(files(load(at(server.url, validation=0)))[0])) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_without_a_network_a_whole_copy_is_used_and_said_to_be_one(
    server: Server, packed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.holds(packed)
    load_test(at(server.url))

    def down(handler: Handler, *_: Any) -> bool:
        handler.close_connection = True
        handler.connection.close()
        return True

    server.fault = down
    forget()
    assert load_test(at(server.url)).fingerprint() == load_test(at(packed)).fingerprint()
    (line,) = [record.getMessage() for record in caplog.records if "not reached" in record.getMessage()]
    assert "its copy is used, and may be older" in line and server.url in line
    with pytest.raises(UserError, match=r"could not be fetched"):
        load(at(server.url))
    forget()
    server.requests.clear()
    assert load_test(at(server.url, download=False)).fingerprint() == load_test(at(packed)).fingerprint()
    with pytest.raises(UserError, match=r"tars are not in .*data.download=false"):
        load(at(server.url, download=False))
    assert server.requests == []
    with pytest.raises(UserError, match=r"elsewhere: not in .*data.download=false"):
        describe(at(f"{server.url}/elsewhere", download=False))
    with pytest.raises(UserError, match="try again later"):
        describe(at(f"{server.url}/elsewhere"))


def forbidden(handler: Handler, *_: Any) -> bool:
    handler.send(403)
    return True


def larger(handler: Handler, request: Request, turn: int) -> bool:
    """A tar is always said to be one byte larger than it is."""
    if request.name == "val-0.tar":
        content = handler.server.files[request.name]
        part = content if request.start is None else content[request.start : request.start + PIECE]
        handler.give(part, {}, 200 if request.start is None else 206, len(part) + 1)
        handler.close_connection = True
        return True
    return False


def silent(handler: Handler, request: Request, turn: int) -> bool:
    """No word of a tar's size."""
    if request.name == "val-0.tar":
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.close_connection = True
        return True
    return False


PATTERN = "/{train,val}-0.tar"


@pytest.mark.parametrize(
    ("place", "fault", "line"),
    [
        ("", None, "there is no such file|HTTP status 404"),
        ("/train-{0..3}.tar", None, "name a folder with a shards.json"),
        (PATTERN, forbidden, "HTTP status 403; see that it may be read"),
        (PATTERN, larger, r"val-0.tar: could not be fetched|val-0.tar: is not what"),
        (PATTERN, silent, "val-0.tar: the server does not say how large it is"),
        ("/{train,val}-{0..200000}.tar", None, "more than 100,000 tars"),
        ("/{train,%2e%2e/val}-0.tar", None, "not a name for a tar"),
        ("/{train-0.tar,val-0.tar}/..", None, "not a name for a tar"),
        ("/{train-0,.hidden}.tar", None, "not a name for a tar"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    place: str, fault: Fault | None, line: str, server: Server, tmp_path: Path
) -> None:
    for name in ("train-0", "val-0"):
        write(tmp_path / "tars" / f"{name}.tar", samples(range(8)))
    server.holds(tmp_path / "tars")
    server.fault = fault or server.fault
    with pytest.raises(UserError, match=line) as told:
        load(at(server.url + place))
    assert "\n" not in str(told.value) and server.url in str(told.value)


@pytest.mark.parametrize(
    "name", ["../train-0.tar", "/etc/train-0.tar", "a/../../t.tar", "https://other/t.tar", "//other/t.tar", "t.tar?a=b",
             "a\\..\\t.tar", ".t.tar", "t.tar\n", "%2e%2e/t.tar", "~/../t.tar", "t.zip", ""]
)  # fmt: skip
def test_names_that_lead_out_are_refused(name: str, server: Server, tmp_path: Path) -> None:
    tars = {name: {"bytes": 10240, "sha256": "0" * 64}}
    server.files["shards.json"] = json.dumps({"class_names": ["a", "b"], "tars": tars}).encode()
    with pytest.raises(UserError, match="not a name for a tar in this folder"):
        load(at(server.url))
    assert {request.name for request in server.requests} == {"shards.json"}
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".tar"] == []


@pytest.mark.parametrize("facts", [b"<html>", b"[]", b'{"tars": {"a.tar": 3}}', b'{"tars": {"a.tar": {"bytes": "x"}}}'])
def test_a_damaged_list_of_tars_is_one_line(facts: bytes, server: Server) -> None:
    server.files["shards.json"] = facts
    with pytest.raises(UserError, match=r"shards.json: damaged"):
        load(at(server.url))


def test_tars_that_are_not_those_of_shards_json_are_told(server: Server, packed: Path) -> None:
    server.holds(packed)
    content = bytearray(server.files["val-000000.tar"])
    content[600] ^= 1  # in a picture: the tar itself is sound
    server.files["val-000000.tar"] = bytes(content)
    with pytest.raises(UserError, match=r"val-000000.tar: is not what shards.json .*SHA-256"):
        load_test(at(server.url))


def test_a_listing_of_fsspec_names_the_tars(packed: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, numbers in (("train/0", range(6)), ("train/1", range(6, 12)), ("val/0", range(12, 16))):
        path = write(tmp_path / "tars" / f"{name}.tar", samples(numbers))
        memory.pipe(f"/of-others/{name}.tar", path.read_bytes())
    memory.pipe("/of-others/.hidden/3.tar", b"")
    assert contents(at("memory://of-others/")) == contents(at(tmp_path / "tars"))
    memory.rm("/of-others", recursive=True)
    with pytest.raises(UserError, match="memory://of-others/: cannot be read"):
        contents(at("memory://of-others/"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{8..11}.tar", ["a-8.tar", "a-9.tar", "a-10.tar", "a-11.tar"]),
        ("a-{008..010}.tar", ["a-008.tar", "a-009.tar", "a-010.tar"]),
        ("{2..0}.tar", ["2.tar", "1.tar", "0.tar"]),
        ("{a,b}{0..1}.tar", ["a0.tar", "a1.tar", "b0.tar", "b1.tar"]),
        ("{t-{0..1},v}.tar", ["t-0.tar", "v.tar", "t-1.tar"]),
        ("a.tar", ["a.tar"]),
    ],
)
def test_braces_are_those_of_a_shell(pattern: str, names: list[str]) -> None:
    assert set(_expanded(pattern)) == set(names)


def test_processes_that_start_together_fetch_each_tar_once(server: Server, packed: Path) -> None:
    server.holds(packed)

    def fetched(_: int) -> list[Path]:
        tars = tars_at.__wrapped__(server.url, True)
        return tars.fetched(list(tars.files))

    with ThreadPoolExecutor(3) as threads:
        first, *rest = threads.map(fetched, range(3))
    assert all(paths == first for paths in rest) and len(first) > 4
    asked = [request for request in server.requests if request.method == "GET" and request.name.endswith(".tar")]
    assert len(asked) == len(set(asked))


def test_a_full_disk_is_told_before(server: Server, packed: Path) -> None:
    server.holds(packed)
    with patch("shutil.disk_usage") as usage, pytest.raises(UserError, match="are free; XDG_CACHE_HOME"):
        usage.return_value.free = 10_000
        load(at(server.url))
    assert server.asked() == set()


def test_a_disk_that_fills_up_is_no_fault_of_the_network(server: Server, packed: Path) -> None:
    server.holds(packed)
    with patch("os.fsync", side_effect=OSError(28, "No space left on device")), pytest.raises(UserError) as told:
        tars_at(server.url, True).fetched(["val-000000.tar"])
    assert "cannot be written (No space left on device)" in str(told.value)


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/x", "https://secret@host/x", "https://host/x?sig=secret", "s3://k:secret@b/x",
            "https://host/x#secret"]
)  # fmt: skip
def test_secrets_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UserError, match="leave out the name, the password") as told:
        compose_groups("eval", ["data=shards", f"data.root={url}"], "data")
    assert "secret" not in str(told.value) and re.search("//(host|b)/x:", str(told.value))


def test_a_url_is_for_tars_alone_and_stays_as_it_is() -> None:
    with pytest.raises(UserError, match="data=shards reads tars at a URL"):
        compose_groups("eval", ["data=folder", "data.root=https://host/x"], "data")
    for url in ("https://host/a-{000..003}.tar", "s3://bucket/x/", "abfs://box@account.host/x", "hf://datasets/a/b@c"):
        (data,) = compose_groups("eval", ["data=shards", f"data.root={url}"], "data")
        assert isinstance(data, ImageFilesConfig) and data.root == url


def test_a_password_comes_from_netrc(
    server: Server, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.holds(packed)

    def locked(handler: Handler, *_: Any) -> bool:
        if handler.headers.get("Authorization") != "Basic bWU6c2VjcmV0":
            handler.send(401)
            return True
        return False

    server.fault = locked
    with pytest.raises(UserError, match="HTTP status 401"):
        load_test(at(server.url))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert load_test(at(server.url)).fingerprint() == load_test(at(packed)).fingerprint()


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"pip install 'cnn-zoo\[remote\]'"):
        describe(at("https://127.0.0.1/x"))
    with pytest.raises(UserError, match=r"pip install 'fsspec\[s3\]'"):
        describe(at("s3://bucket/x"))
    with pytest.raises(UserError, match="no-such://host/x: cannot be read"):
        describe(at("no-such://host/x"))


@pytest.mark.slow
def test_training_at_a_url_equals_training_in_a_folder(server: Server, packed: Path, tmp_path: Path) -> None:
    server.holds(packed)
    server.fault = cut
    quick = (
        *("model=lenet5", "data.mean=[0.5]", "data.std=[0.5]", "data.image_size=32", "data.resize=32"),
        *("recipe=torchvision_v1", "recipe.epochs=2", "recipe.milestones=[1]", "recipe.batch_size=8", "trainer=cpu"),
        *("trainer.threads=1", "trainer.workers=1"),
    )
    runs = {}
    for name, root in (("folder", packed), ("url", server.url)):
        words = ("data=shards", f"data.root={root}", *quick, f"runs={tmp_path / 'runs' / name}")
        done = run_script("train.py", *words)
        assert done.returncode == 0, done.stderr
        runs[name] = only(only(tmp_path / "runs" / name))
    plain, fetched = (json.loads((run / "result.json").read_text()) for run in runs.values())
    assert fetched["weights"] == plain["weights"] and fetched["data"] == plain["data"]
    for file in ("predictions.csv", "metrics.csv", "split.csv"):
        assert len({(run / file).read_bytes() for run in runs.values()}) == 1, file
    server.shutdown()
    server.server_close()
    done = run_script("eval.py", f"run={runs['url']}", "force=true", f"runs={tmp_path / 'evaluations'}")
    assert done.returncode == 0 and "not reached" in done.stdout, done
