"""The gate before a page: who is let in, by a real websocket client and by HTTP; what a page may say, and what a flood does."""

import http.client
import re
import socket
import time

import msgspec
import pytest
import torch
import viser
from looker import FRONT, Looker, browser_of, until
from splatdistill_viewer.gallery import Gallery
from splatdistill_viewer.gate import Gate, host_and_port
from splatdistill_viewer.messages import LONGEST
from splatdistill_viewer.run_page import RunPage
from splatdistill_viewer.server import Server, free_port
from splatdistill_viewer.variants_page import VariantsPage
from splatdistill_viewer.work_queue import MOST, CommandQueue, WorkQueue
from train.small import config, red_and_blue
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from splatdistill.cli import main
from splatdistill.errors import UserError
from splatdistill.export.saved_splats import SavedSplats
from splatdistill.scene.initial import Ball
from splatdistill.train.commands import Commands, Densify, Pause, Prune, Save, SetField
from splatdistill.train.run import RunDir
from splatdistill.train.session import Session
from splatdistill.train.variants import Variant

PROTOCOL = f"viser-v{viser.__version__}"


@pytest.fixture(scope="module")
def server():
    server = Server(8420, hosts=["box.lan", "tunnel:9000"])
    yield server
    server.end()


def handshake(port, query="", host=None, origin=None, cookie=None, protocol=PROTOCOL, **more):
    """Return the status of a websocket's opening: 101 if it was let in."""
    headers = {} if cookie is None else {"Cookie": cookie}
    protocols = None if protocol is None else [protocol]
    address = f"ws://{host or f'127.0.0.1:{port}'}/{query}"  # the name stands in Host; where it leads is said apart, as by a rebound name
    try:
        there = socket.create_connection(("127.0.0.1", port))
        with connect(address, sock=there, origin=origin, additional_headers=headers, subprotocols=protocols, max_size=None, **more):
            return 101
    except InvalidStatus as e:
        return e.response.status_code


def get(port, path="/", **headers):
    """Return status, headers and body of a page."""
    there = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    there.request("GET", path, headers=headers)
    answer = there.getresponse()
    return answer.status, answer, answer.read()


def test_a_websocket_needs_the_token_a_host_and_an_origin_of_ours(server):
    port, token = server.get_port(), server.gate.token
    right, cookie = f"?token={token}", f"{server.gate.cookie}={token}"
    here = f"127.0.0.1:{port}"
    assert handshake(port, right) == handshake(port, cookie=cookie) == 101
    assert handshake(port, cookie=f"other=1; a b; =; {cookie}; x", host=f"localhost:{port}", origin=f"http://localhost:{port}") == 101
    assert handshake(port, right, host=f"[::1]:{port}", origin=f"http://[::1]:{port}") == 101
    # named on the command line: a tunnel's other end, at one port or at any
    assert handshake(port, right, host="box.lan", origin="https://box.lan") == handshake(port, right, host="BOX.lan:77") == 101
    assert handshake(port, right, host="tunnel:9000", origin="http://tunnel:9000") == 101
    refused = [
        {}, {"query": "?token="}, {"query": "?token=wrong"}, {"query": f"?token={token[:-1]}"}, {"query": f"?token={token}x"},
        {"query": f"?token={token}&token={token}"}, {"cookie": f"{server.gate.cookie}=wrong"}, {"cookie": f"splatdistill-1={token}"},
        {"query": "?token=wrong", "cookie": cookie}, {"query": "?token=%ff%00"}, {"query": f"?websocket=ws://evil.example&token={token}"},
    ]  # fmt: skip
    refused += [
        {"query": right, "origin": o}
        for o in (
            "http://evil.example", "https://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}.evil.example",
            "http://127.0.0.1", f"file://{here}", f"http://{here}@evil.example", f"http://evil.example/{here}", "http://tunnel:9001",
        )
    ]  # fmt: skip
    refused += [
        {"query": right, "host": h}
        for h in ("evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", f"0.0.0.0:{port}", "tunnel")
    ]  # fmt: skip
    for request in refused:
        assert handshake(port, **request) == 403, request
    for protocol in (None, "viser-v0.0.0", f"{PROTOCOL}\u001b[31m".encode("ascii", "ignore").decode().replace("\x1b[", "-")):
        assert handshake(port, right, protocol=protocol) == 400, protocol


def test_the_page_is_served_to_who_has_the_token_and_carries_it_on(server):
    port, token = server.get_port(), server.gate.token
    for path, headers in (("/", {}), ("/index.html", {}), ("/?token=x", {}), (f"/?token={token}", {"Host": "evil.example"}), (f"/?token={token}&x=1", {})):
        status, answer, body = get(port, path, **headers)
        assert status == 403 and answer.getheader("Set-Cookie") is None and token.encode() not in body and len(body) < 200
    status, answer, body = get(port, f"/?token={token}")
    assert status == 200 and len(body) > 100_000 and answer.getheader("X-Frame-Options") == "DENY" and answer.getheader("Referrer-Policy") == "no-referrer"
    assert "frame-ancestors 'none'" in answer.getheader("Content-Security-Policy") and f"ws://127.0.0.1:{port}" in answer.getheader("Content-Security-Policy")
    name, value, *more = answer.getheader("Set-Cookie").replace("=", ";", 1).split(";")
    assert (name, value) == (server.gate.cookie, token) and {m.strip() for m in more} == {"Path=/", "HttpOnly", "SameSite=Strict"}
    status, answer, _ = get(port, "/", Cookie=f"{name}={value}")
    assert status == 200
    assert get(port, "/../../etc/passwd", Cookie=f"{name}={value}")[0] == 404
    assert server.addresses[0] == f"http://127.0.0.1:{port}/?token={token}"
    assert socket.create_connection(("127.0.0.1", port)).getpeername()[0] == "127.0.0.1" and server.get_host() == "127.0.0.1"


def test_tokens_are_long_and_differ():
    tokens = {Gate().token for _ in range(50)}
    assert len(tokens) == 50 and all(re.fullmatch(r"[\w-]{32}", t) for t in tokens)


@pytest.mark.parametrize("name", ["http://box", "a b", "box:0", "box:99999", "box:", "", "a/b", "*", "box\n", "[::1", "\x1b[2J"])
def test_a_name_that_is_none_is_refused_in_one_line(name, capsys, tmp_path):
    with pytest.raises(UserError, match="--viewer-host"):
        Gate([name])
    assert host_and_port(name) is None
    assert main(["view", "x", f"--viewer-host={name}"]) == 2 if name else True
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said and "Traceback" not in said


def test_what_is_no_http_is_answered_by_nothing_in_the_terminal(server, capfd):
    for garbage in (b"\x00" * 400, b"GET / HTTP/9\r\n\r\n", b"\x16\x03\x01 hello", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.get_port()), timeout=20) as s:
            s.sendall(garbage)
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
    assert get(server.get_port(), f"/?token={server.gate.token}")[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def page(tmp_path):
    """Yield a run's page that no browser has opened, whose run stands still."""
    session = Session(config(init=Ball(count=40), particles=2), red_and_blue())
    told: list[str] = []
    page = RunPage(session, RunDir.create("p", tmp_path / "run"), Commands(), 8440, told.append)
    page.told = told
    yield page
    page.close()


def test_values_that_a_control_cannot_hold_change_nothing(page, capfd):
    inf, nan = float("inf"), float("nan")
    bad = {
        0: ["999", "0", 1, True, None, [], {}, "1\n", "1" * 5000], 1: ["exact everything", "", 3], 2: [99.0, -1.0, nan, inf, "1", True, None, [1.0]],
        3: ["yes", 1, 0.0, None], 4: [nan, inf, -inf, "7", None, 1e300, {"a": 1}], 5: [nan, inf, 1e12, "x", True, [1.0, 2.0]], 6: [7, True, None, ["a"], "a" * 5000],
        7: ["plaid", 1, None],
    }  # fmt: skip
    with Looker(page.where[0]) as looker:
        until(lambda: page.browsers.any)
        d, s = browser_of(page).display, page.steering.handles
        handles = [d.particle, d.mode, d.size, d.turntable, s["guidance.scale"], s["rates.means"], s["prompt"], s["background.kind"]]
        before = [h.value for h in handles]
        for k, values in bad.items():
            for value in values:
                looker.set(handles[k], value)
        uuid = d.size._impl.uuid
        looker.send("GuiUpdateMessage", uuid=uuid, updates={"update_cb": ["x"], "value": 0.5})
        looker.send("GuiUpdateMessage", uuid=uuid, updates={"removed": True})
        looker.send("GuiUpdateMessage", uuid=uuid, updates={})
        looker.send("GuiUpdateMessage", uuid=uuid, updates={"value": 0.5}, more=1)
        looker.send("GuiUpdateMessage", uuid="nobody", updates={"value": 0.5})
        looker.send("GuiUpdateMessage", uuid=page.status.bar._impl.uuid, updates={"value": 50.0})
        looker.send("GuiUpdateMessage", uuid=page.status.text._impl.uuid, updates={"content": "<script>"})
        looker.set(d.cutoff, 0.25)  # and one that is right, after all of them
        until(lambda: d.cutoff.value == 0.25)
        assert [h.value for h in handles] == before and page.status.bar.value == 0 and "<script>" not in page.status.text.content
        for at in ((nan, 0.0, 1.0), (1e9, 0.0, 0.0), (0.0, 0.0, 0.0)):  # the last one looks at itself
            looker.stand(FRONT[0], at)
        looker.stand((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 0.0))
        looker.stand(FRONT[0], (2.8, 0.0, 0.0), fov=0.0)
        looker.stand(FRONT[0], (4.0, 0.0, 0.0))
        client = next(iter(page.browsers.there.values())).client
        until(lambda: client.camera.position[0] == 4.0)
        looker.set(d.particle, "2")
        until(lambda: d.particle.value == "2")
        page.guard(page.tick, True)
    assert not page.guard.off and not page.told and capfd.readouterr() == ("", "")


def test_uploads_shares_and_other_messages_are_not_taken(page, capfd):
    shared = []
    page.server.request_share_url = lambda *a, **k: shared.append(1)
    with Looker(page.where[0]) as looker:
        until(lambda: page.browsers.any)
        d = browser_of(page).display
        uuid = d.size._impl.uuid
        looker.send("FileTransferStartUpload", source_component_uuid=uuid, transfer_uuid="t", filename="x", mime_type="x", part_count=10**9, size_bytes=10**12)
        for k in range(20):
            looker.send("FileTransferPart", source_component_uuid=uuid, transfer_uuid="t", part_index=k, content=bytes(50_000))
        for kind in ("ShareUrlRequest", "ShareUrlDisconnect", "GuiButtonHoldMessage", "GuiFormDirtyMessage", "ResetGuiMessage", "RunJavascriptMessage", "Nothing", ""):
            looker.send(kind, uuid=uuid, source="alert(1)")
        for raw in (b"", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x91" * 60_000, msgspec.msgpack.encode([1]), msgspec.msgpack.encode({"type": 1})):
            looker.socket.send(raw)
        looker.socket.send("a text")
        looker.set(d.cutoff, 0.5)
        until(lambda: d.cutoff.value == 0.5)
        assert page.server.gui._current_file_upload_states == {} and not shared
    with Looker(page.where[0]) as looker, pytest.raises(ConnectionClosed):
        looker.socket.send(bytes(LONGEST + 1))
        until(lambda: looker.socket.send(b"x"), seconds=20)
    with Looker(page.where[0]) as looker, pytest.raises(ConnectionClosed):
        until(lambda: looker.socket.send(b"x"), seconds=20)  # nothing but rubbish: closed in the end
    assert not page.guard.off and not page.told and capfd.readouterr() == ("", "")


def test_nothing_is_heard_before_a_page_says_where_it_stands(page):
    with connect(page.where[0].replace("http", "ws", 1), subprotocols=[PROTOCOL], max_size=None) as s:
        s.send(msgspec.msgpack.encode({"type": "GuiUpdateMessage", "uuid": page.exports.size._impl.uuid, "updates": {"value": "2048"}}))
        with Looker(page.where[0]) as looker:
            looker.set(page.exports.clear, True)
            until(lambda: page.exports.clear.value)
    assert page.exports.size.value == "512"


def test_a_page_has_its_own_look_and_none_can_change_anothers(page):
    with Looker(page.where[0]) as looker, Looker(page.where[0]) as other:
        until(lambda: len(page.browsers.there) == 2)
        both = [b.display for b in page.browsers.there.values()]
        for k, display in enumerate(both):
            looker.set(display.backdrop, "black")  # of its own and of the other's
            looker.set(display.size, 0.5 + k)
        until(lambda: any(d.size.value != 1.0 for d in both))
        until(lambda: page.exports.clear.value, lambda: looker.set(page.exports.clear, True))  # all before that was read
        mine, others = sorted(both, key=lambda d: d.size.value == 1.0)
        assert (mine.background, others.background, others.size.value) == ("black", "white", 1.0)
        other.set(others.mode, "depth")
        until(lambda: others.exact == "depth")
        assert mine.exact is None


def test_control_characters_of_a_client_do_not_reach_the_terminal(page):
    page.report("a \x1b[2J b \u202e c \ud800 d\ne")
    assert page.told == ["a \\x1b[2J b \\u202e c \\ud800 d\\ne"]
    with Looker(page.where[0]) as looker:
        until(lambda: page.browsers.any)
        looker.set(page.steering.handles["prompt"], "a\x1b[31m red\n\x00disc \x85")
        until(lambda: page.steering.handles["prompt"].value == "a [31m red  disc  ")


def test_a_flood_is_slowed_and_heard_once(page):
    asked = []
    page.queue.run = asked.append
    buttons = {getattr(h, "label", None): h for h in page.server.gui._gui_input_handle_from_uuid.values()}
    with Looker(page.where[0]) as looker, Looker(page.where[0]) as other:
        until(lambda: len(page.browsers.there) == 2)
        began = time.monotonic()
        for _ in range(150):
            looker.click(buttons["Save a checkpoint"])
            looker.click(buttons["Export"])
            looker.stand(FRONT[0], (2.5, 0.1, 0.0))
        looker.set(page.exports.clear, True)
        other.set(page.exports.size, "256")
        until(lambda: page.exports.size.value == "256")
        assert time.monotonic() - began < 1.5, "who does not flood does not wait"
        until(lambda: page.exports.clear.value)
        assert time.monotonic() - began > 1.0, "who floods does"
    assert asked == [Save()] and len(page.asked.waiting) == 1 and page.session.state.step == 0


def test_queues_keep_order_and_bounds():
    put = []
    queue = CommandQueue(put.append)
    given = [Save(), Pause(), Pause(), SetField("a", 1), SetField("a", 2), SetField("a", 1), Prune(0.1), Save(), Prune(0.2), Densify(), Densify()]
    for command in given:
        queue.put(command)
    assert put == [Save(), Pause(), SetField("a", 1), SetField("a", 2), SetField("a", 1), Prune(0.1), Densify()]
    for command in put:
        queue.done(command)
    queue.put(Save())
    assert put[-1] == Save() and queue.waiting == [Save()]
    for k in range(1000):
        queue.put(SetField("b", k))
    assert len(queue.waiting) == MOST
    work, did = WorkQueue(), []
    assert [work.put("a", lambda: did.append(1)), work.put("a", lambda: did.append(2)), work.put("b", lambda: did.append(3))] == [True, False, True]
    while (do := work.take()) is not None:
        do()
    assert did == [1, 3] and work.empty
    assert sum(work.put(k, lambda: None) for k in range(1000)) == MOST


def test_too_many_pages_are_not_let_in(server, monkeypatch):
    from splatdistill_viewer import gate

    monkeypatch.setattr(gate, "CONNECTIONS", 3)
    lookers = [Looker(server.addresses[0]).__enter__() for _ in range(2)]
    try:
        statuses = [handshake(server.get_port(), f"?token={server.gate.token}") for _ in range(2)]
        assert statuses[0] == 101
        lookers.append(Looker(server.addresses[0]).__enter__())
        assert handshake(server.get_port(), f"?token={server.gate.token}") == 503
    finally:
        for looker in lookers:
            looker.__exit__()


def test_all_pages_are_behind_the_gate(tmp_path):
    g = Ball(count=20).make(torch.Generator().manual_seed(0))
    prior = red_and_blue()
    runs = [Variant(Session(config(seed=s, init=Ball(count=20)), prior), RunDir.create("p", tmp_path / f"{s}")) for s in range(2)]
    pages = [Gallery([SavedSplats("a", tmp_path, g, tmp_path)], 8460), VariantsPage(runs, 8460)]
    try:
        for page in pages:
            assert handshake(page.port) == handshake(page.port, f"?token={page.server.gate.token}", origin="http://evil.example") == 403
            assert handshake(page.port, f"?token={page.server.gate.token}") == 101
        token = pages[1].server.gate.token
        pages.append(RunPage(runs[0].session, runs[0].folder, Commands(), server=pages[1].hand_over()))
        assert pages[2].where[0].endswith(token) and handshake(pages[2].port) == 403 and handshake(pages[2].port, f"?token={token}") == 101
    finally:
        for page in pages:
            page.close()


def test_a_viser_that_opens_its_server_otherwise_is_not_left_open(monkeypatch):
    import websockets.asyncio.server as served

    def opened_otherwise(self, *args, **more):
        self._websock_server = None

    monkeypatch.setattr(viser.ViserServer, "__init__", opened_otherwise)
    monkeypatch.setattr(viser.ViserServer, "stop", lambda self: None)
    before = served.serve
    with pytest.raises(RuntimeError, match="cannot be guarded"):
        Server(8480)
    assert served.serve is before


@pytest.mark.parametrize("port", ["99999", "65536", "0", "-1", "-99999"])
@pytest.mark.parametrize("words", [["view", "x.ply"], ["train", "--prompt", "a red mushroom", "--prior", "tiny", "--viewer"]])
def test_a_port_that_is_none_is_one_line(words, port, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, f"--port={port}"]) == 2
    said = capsys.readouterr()
    assert said.err.strip() == f"error: --port lies within 1 and 65535, got {port}; left out it is 8080, or the next that is free"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["view", "x.ply"], ["train", "--prompt", "a red mushroom", "--prior", "tiny", "--viewer"]])
@pytest.mark.parametrize("port", ["abc", "1.5", ""])
def test_a_port_that_is_no_number_is_a_usage_error(words, port, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--port", port]) == 2 and "--port" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_no_free_port_is_said_and_not_looked_for_for_ever():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 65535))
        taken.listen()
        with pytest.raises(OSError, match="no port of"):
            free_port(65535)
        with pytest.raises(OSError, match="no port of"):
            Server(65535)
