"""Hostile messages for the pages: python scripts/fuzz_page.py --page run --seed 0 --count 10000

A real run of the embedded prior is watched by its page; --page variants, corpus and splats take the pages of `train
--variants`, of `amortise` and of `view` instead. The messages that a browser sends (a camera's pose, one for each
control that the page has) are taken as they are and damaged: types, sizes, nesting, handles, numbers that are none, huge
texts, keys that are missing or too many, bytes flipped, cut and inserted; other messages of viser's protocol come too
(uploads, sharing, whatever the server itself sends), frames of other kinds, visits that end as they begin, and
requests with other Hosts, Origins, tokens and versions. After every batch a good browser must find the page answering and the
run going on, memory bounded, nothing but lines of ours in the terminal. Whatever fails is printed with the batch that did it, and the exit status is 1.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import torch
from hostile_messages import CAMERA, PROTOCOL, Hostile
from page_visitor import PATIENCE, Failed, Target, Visitor, until
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from splatdistill.io.ply import write_ply
from splatdistill.scene.initial import Ball

BATCH = 100
BRIEF = 0.03  # share of visits that end as they begin


def send_request(address: str, raw: bytes) -> None:
    """Send a request; raise Failed if it is let in."""
    name = address.removeprefix("http://").partition("/")[0]
    host, _, port = name.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=15) as s:
        s.sendall(raw)
        if not raw.endswith(b"\r\n\r\n"):  # the server would wait for the rest
            s.shutdown(socket.SHUT_WR)
        answer = s.recv(4096)
        if answer.startswith(b"HTTP/1.1 101") or b"Set-Cookie" in answer:
            raise Failed(f"let in: {raw!r} -> {answer[:200]!r}")


class Sender:
    """Connection that sends hostile messages, reopened whenever the page closes it."""

    def __init__(self, address: str, rng: random.Random) -> None:
        self.address, self.rng = address, rng
        self.socket: ClientConnection | None = None

    def send(self, raw: bytes | str) -> None:
        """Send it; sometimes in pieces, sometimes before the page knows a camera."""
        for _ in range(2):
            try:
                if self.socket is None:
                    self.socket = connect(self.address.replace("http", "ws", 1), subprotocols=[PROTOCOL], max_size=None, compression=None, open_timeout=PATIENCE)
                    threading.Thread(target=drain, args=(self.socket,), daemon=True).start()
                    if self.rng.random() < 0.9:
                        self.socket.send(msgspec.msgpack.encode(CAMERA))
                pieces = self.rng.random() < 0.1 and len(raw) > 3
                self.socket.send([raw[:2], raw[2:]] if pieces else raw)  # type: ignore[list-item, arg-type]
                if self.rng.random() < 0.005:
                    self.close()
                return
            except (WebSocketException, OSError):
                self.socket = None

    def close(self) -> None:
        """Close the connection."""
        if self.socket is not None:
            with contextlib.suppress(WebSocketException, OSError):
                self.socket.close()
            self.socket = None


def visit(address: str, seconds: float) -> None:
    """Open the page as a browser does, and go while the page is still adding controls."""
    with contextlib.suppress(WebSocketException), connect(
        address.replace("http", "ws", 1), subprotocols=[PROTOCOL], max_size=None, compression=None, open_timeout=PATIENCE
    ) as socket:  # fmt: skip
        socket.send(msgspec.msgpack.encode(CAMERA))
        time.sleep(seconds)


def drain(socket: ClientConnection) -> None:
    """Read what comes and throw it away."""
    with contextlib.suppress(WebSocketException):
        for _ in socket:
            pass


def fuzz(target: Target, seed: int, count: int, tell: Callable[[str], None] = print) -> Counter[str]:
    """Send so many inputs; return how many of each kind. Raises Failed, with the batch that did it in the folder of temporary files."""
    rng, kinds = random.Random(seed), Counter[str]()
    target.look()
    with Visitor(target.address) as visitor:
        visitor.find(target.button)
        time.sleep(0.5)
        hostile = Hostile(rng, dict(visitor.controls))
    senders = [Sender(target.address, rng) for _ in range(3)]
    for first in range(0, count, BATCH):
        sent: list[bytes | str] = []
        try:
            for _ in range(min(BATCH, count - first)):
                if rng.random() < BRIEF:
                    kinds["brief visit"] += 1
                    sent.append("a brief visit")
                    visit(target.address, rng.uniform(0.0, 0.1))
                    continue
                request = rng.random() < 0.08
                kind, raw = hostile.request(target.address) if request else hostile.message()
                kinds[kind] += 1
                sent.append(raw)
                if request:
                    assert isinstance(raw, bytes)
                    send_request(target.address, raw)
                else:
                    rng.choice(senders).send(raw)
            target.look()
        except Failed:
            kept = Path(tempfile.gettempdir()) / f"fuzz_page-{seed}-{first}.txt"
            kept.write_text("\n".join(map(repr, sent)), encoding="utf-8")
            tell(f"inputs {first} to {first + len(sent)} of seed {seed} did it: {kept}")
            raise
        if first % (10 * BATCH) == 0:
            tell(f"{first + len(sent)} inputs, step {target.steps}, {target.memory() / 2**20:.0f} MiB")
    for sender in senders:
        sender.close()
    return kinds


QUICK = ["--prior", "tiny", "--batch", "1", "--steps", "1000000", "--preview-every", "0", "--checkpoint-every", "0", "--viewer", "--no-wait"]
MUSHROOM = ["--prompt", "a red mushroom", "--guidance", "sds", "--init.count", "60", "--resolutions", "16", *QUICK]
PAGES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "run": (["train", *MUSHROOM, "--out"], {}),
    "variants": (["train", "--variants", "2", *MUSHROOM, "--out"], {"button": "Refine this one"}),
    "corpus": (["amortise", "--corpus", "{corpus}", "--guidance", "sds", *QUICK, "--out"], {"button": "Show", "shared": "prompt"}),
    "splats": (["view", "{splats}", "--out"], {"button": "Export cleaned", "runs": False, "shared": "opacity threshold"}),
}
"""Command that opens each kind of page, before its folder and port, and how the page differs from a run's as a Target."""


@contextlib.contextmanager
def running(folder: Path, port: int, page: str = "run") -> Iterator[Target]:
    """Yield a real page of a process of its own; stopped as by a system that shuts down."""
    words, differences = PAGES[page]
    said, files = folder / "said", {"{corpus}": folder / "corpus.txt", "{splats}": folder / "ball.ply"}
    files["{corpus}"].write_text("a red mushroom\na blue mushroom\na green mushroom\na red teapot\n", encoding="utf-8")
    write_ply(files["{splats}"], Ball(count=60).make(torch.Generator().manual_seed(0)))
    command = [sys.executable, "-m", "splatdistill", *(str(files.get(w, w)) for w in words), str(folder / "run"), "--port", str(port)]
    with said.open("wb") as file:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    try:

        def terminal() -> str:
            return said.read_text(encoding="utf-8", errors="replace")

        def memory() -> int:
            return int(Path(f"/proc/{child.pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")

        until(lambda: child.poll() is not None or "token=" in terminal(), "the page's address")
        found = re.search(r"http://\S+token=\S+", terminal())
        if found is None:
            raise Failed(terminal())
        yield Target(found[0], memory, terminal, **differences)
        child.send_signal(signal.SIGTERM)
        status, wanted = child.wait(PATIENCE), 128 + signal.SIGTERM
        if differences.get("runs", True) and (status != wanted or "stopped" not in terminal()):
            raise Failed(f"the run did not end well: {terminal()[-2000:]}")
    finally:
        child.kill()
        child.wait()


def main() -> int:
    """Run as a program; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", choices=PAGES, default="run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--port", type=int, default=8990)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            with running(Path(folder), asked.port, asked.page) as target:
                kinds = fuzz(target, asked.seed, asked.count)
                memory = target.memory()
        except Failed as e:
            print(f"FAILED: {e}")
            return 1
    told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    print(f"{asked.count} inputs of seed {asked.seed} ({told}) in {time.monotonic() - began:.0f} s:")
    run = f", the run went on to step {target.steps} and ended when asked" if target.runs else ""
    print(f"the page answered{run}; {target.least / 2**20:.0f} -> {memory / 2**20:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
