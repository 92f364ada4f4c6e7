"""Strangers on the scheduler's socket. Each is turned away, and the cluster works on."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import random
import socket
import struct

import pytest

from taskloom import Client
from tests import tasks
from tests.support import command

TOKEN = "a token of this test"
HELLO, CHALLENGE, PROOF, WELCOME, REJECT = range(240, 245)


@pytest.fixture(scope="module")
def address():
    """A scheduler with a worker, in processes of their own."""
    import json
    import tempfile
    from pathlib import Path

    from tests.support import wait_until

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)]
        with command("scheduler", *options, "--no-dashboard", TASKLOOM_TOKEN=TOKEN):
            wait_until(file.exists, "the scheduler listens")
            address = json.loads(file.read_text())["address"]
            with command("worker", address, "--no-nanny", TASKLOOM_TOKEN=TOKEN):
                yield address


@pytest.fixture(autouse=True)
def cluster_lives(address, monkeypatch):
    """After each test a client of the same token is served by the same worker."""
    monkeypatch.setenv("TASKLOOM_TOKEN", TOKEN)
    yield
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=30)
        assert client.submit(tasks.inc, 1, pure=False).result(timeout=20) == 2


def connect(address):
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=60)


def frame(kind, head, data_length=0, head_length=None):
    length = len(head) if head_length is None else head_length
    return struct.pack("<BBHIQ", kind, 0, 0, length, data_length) + head


def record(fields):
    return struct.pack("<I", len(fields)) + fields


def hello(nonce, major=1, magic=b"TLM1", role=1):
    return frame(HELLO, record(magic + struct.pack("<HHB", major, 0, role) + nonce))


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def read_frame(sock):
    kind, _, _, head, data = struct.unpack("<BBHIQ", read_exactly(sock, 16))
    return kind, read_exactly(sock, head + data)


def is_closed(sock):
    """Whether the other side closes this connection (what it says before does not count)."""
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def handshake(sock, token=TOKEN, role=1):
    """Prove the token; returns the last answer."""
    ours = os.urandom(32)
    sock.sendall(hello(ours, role=role))
    kind, head = read_frame(sock)
    assert kind == CHALLENGE
    theirs = head[4 + 2 + 2 + 8 :][:32]
    proof = hmac.new(token.encode(), b"connect" + ours + theirs, hashlib.sha256).digest()
    sock.sendall(frame(PROOF, record(proof)))
    return read_frame(sock)


def test_the_right_token_opens_the_connection(address):
    with connect(address) as sock:
        assert handshake(sock)[0] == WELCOME


RELAY, RELAY_TO, RELAYED = 5, 250, 251


@pytest.mark.parametrize("target", ["tcp://127.0.0.1:22", "", "unix:///tmp/x", "\n" * 1000])
def test_a_relay_goes_to_workers_only(address, target):
    with connect(address) as sock:
        assert handshake(sock, role=RELAY)[0] == WELCOME
        text = target.encode()
        sock.sendall(frame(RELAY_TO, record(struct.pack("<I", len(text)) + text)))
        kind, head = read_frame(sock)
        assert kind == RELAYED
        assert b"no worker is at" in head
        assert is_closed(sock)


@pytest.mark.parametrize("wish", [frame(RELAY_TO, b""), frame(7, record(b"")), b"\0" * 64])
def test_a_damaged_wish_for_a_relay_is_closed(address, wish):
    with connect(address) as sock:
        assert handshake(sock, role=RELAY)[0] == WELCOME
        sock.sendall(wish)
        assert is_closed(sock)


def test_a_wrong_token_is_told_so_and_closed(address):
    with connect(address) as sock:
        kind, head = handshake(sock, token="another")
        assert kind == REJECT
        assert b"token" in head
        assert is_closed(sock)


def test_a_client_with_a_wrong_token_gets_an_error_that_names_it(address, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TASKLOOM_TOKEN", "another")
        with pytest.raises(OSError, match="token"):
            Client(address, timeout=60)


def test_another_version_is_told_so_and_closed(address):
    with connect(address) as sock:
        sock.sendall(hello(os.urandom(32), major=99))
        kind, head = read_frame(sock)
        assert kind == REJECT
        assert b"version" in head
        assert b"99" in head
        assert is_closed(sock)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"\xff" * 4096,
        b"\n" * 100,
        frame(HELLO, record(b"")),
        frame(HELLO, b"\xff\xff\xff\xff"),
        hello(bytes(32), magic=b"EVIL"),
        frame(PROOF, record(bytes(32))),
        frame(1, b"a message before the handshake"),
        frame(HELLO, b"", head_length=0xFFFFFFFF),
        frame(HELLO, b"", data_length=1 << 60),
    ],
    ids=[
        "http", "tls", "ones", "newlines", "short-hello", "long-record", "magic", "proof-first",
        "message-first", "head-of-4-GB", "data-of-an-exabyte",
    ],
)  # fmt: skip
def test_garbage_before_the_handshake_is_closed(address, garbage):
    with connect(address) as sock:
        sock.sendall(garbage)
        assert is_closed(sock)


def test_an_oversized_frame_after_the_handshake_is_closed(address):
    for claim in ({"head_length": 0xFFFFFFFF}, {"data_length": 1 << 40}):
        with connect(address) as sock:
            handshake(sock)
            sock.sendall(frame(1, b"", **claim))
            assert is_closed(sock)


def test_unknown_and_broken_messages_after_the_handshake_are_closed(address):
    chance = random.Random(1)
    for kind in [0, 1, 2, 3, 50, 200, 255]:
        with connect(address) as sock:
            handshake(sock)
            sock.sendall(frame(kind, chance.randbytes(300)))
            # It may be closed already.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            assert is_closed(sock)


def test_random_frames_of_an_authenticated_peer_harm_nobody(address):
    for seed in range(30):
        chance = random.Random(seed)
        with connect(address) as sock:
            handshake(sock)
            try:
                for _ in range(20):
                    head = chance.randbytes(chance.choice([0, 1, 4, 8, 40, 400]))
                    if chance.random() < 0.5:
                        head = record(head)
                    sock.sendall(frame(chance.randrange(30), head))
            except OSError:
                pass  # turned away: as it should


def test_silent_connections_hold_nobody_up(address):
    sockets = [connect(address) for _ in range(100)]
    try:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
            assert client.submit(tasks.inc, 1, pure=False).result(timeout=20) == 2
    finally:
        for sock in sockets:
            sock.close()


def test_half_a_handshake_cut_off_is_forgotten(address):
    for cut in range(0, len(hello(bytes(32))), 7):
        with connect(address) as sock:
            sock.sendall(hello(bytes(32))[:cut])


def test_listening_off_loopback_without_a_word_of_consent_is_refused():
    with command("scheduler", "--host", "0.0.0.0", "--port", "0") as process:
        out, _ = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "--allow-insecure-network" in out


def test_the_token_file_is_private(tmp_path):
    from tests.support import wait_until

    file = tmp_path / "scheduler.json"
    environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "TASKLOOM_TOKEN": ""}
    options = ["scheduler", "--port", "0", "--scheduler-file", str(file)]
    with command(*options, **environment):
        wait_until(file.exists, "the scheduler listens")
        token = tmp_path / "state" / "taskloom" / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_text().strip()) >= 32
    token.chmod(0o644)
    with command(*options, **environment) as process:
        out, _ = process.communicate(timeout=30)
        assert process.returncode != 0
        assert "chmod 600" in out
