"""Public files come from the first server that has the known content, once; without a network the setting is named."""

import gzip
import hashlib
import http.server
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from analog_glue.cli.main import main
from analog_glue.download import PublicFile, cached, fetch, require_available
from analog_glue.in_situ.tasks import images, war_and_peace
from analog_glue.in_situ.tasks.images import IDX_FILES, Mnist
from analog_glue.in_situ.tasks.task import read_idx
from analog_glue.in_situ.tasks.war_and_peace import WarAndPeace
from tests.fake_hub import NOBODY_LISTENS

CONTENT = bytes(range(65, 77)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return tmp_path / "cache" / "analog-glue"


@pytest.fixture
def server():
    """Serves a dict of path → content; returns its address, the dict and the paths that were asked for."""
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.command, self.path))
            if self.path not in files:
                self.send_error(404)
                return
            self.send_response(200)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                # As servers do with .gz files: a client that takes packed answers unpacks them, and the hash is another.
                self.send_header("Content-Encoding", "gzip")
            missing = 100 if self.path.startswith("/breaks_off") else 0  # bytes announced and never sent
            self.send_header("Content-Length", str(len(files[self.path]) + missing))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(files[self.path])

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", files, asked
    found.shutdown()
    found.server_close()


def test_a_file_is_fetched_once_and_kept(server, cache):
    address, files, asked = server
    files["/text"] = CONTENT
    file = PublicFile("folder/text", SHA, (f"{address}/text",))
    require_available([file])
    path = fetch(file)
    assert path == cache / "folder" / "text" and path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["text"]  # nothing half-written beside it
    before = len(asked)
    require_available([file])
    assert fetch(file) == path and len(asked) == before


def test_a_mirror_takes_over_and_other_content_is_never_kept(server, cache):
    address, files, _ = server
    files["/forged"], files["/true"] = CONTENT + b"!", CONTENT
    file = PublicFile("text", SHA, (f"{address}/missing", f"{address}/forged", f"{address}/true"))
    assert fetch(file).read_bytes() == CONTENT
    forged = PublicFile("forged", SHA, (f"{address}/forged",))
    with pytest.raises(ValueError, match=r"`data\.root` must name a folder with forged .* other content \(SHA-256"):
        fetch(forged)
    assert cached(forged) is None and sorted(entry.name for entry in cache.iterdir()) == ["text"]


def test_a_download_that_breaks_off_leaves_nothing_and_the_mirror_takes_over(server, cache):
    address, files, asked = server
    files["/breaks_off"], files["/true"] = CONTENT, CONTENT  # what did arrive of the first is no whole answer
    alone = PublicFile("folder/text", SHA, (f"{address}/breaks_off",))
    with pytest.raises(ValueError, match=r"/breaks_off gives no answer \(.*IncompleteRead.*100 more expected"):
        fetch(alone)
    assert list((cache / "folder").iterdir()) == []
    assert fetch(PublicFile("folder/text", SHA, (*alone.addresses, f"{address}/true"))).read_bytes() == CONTENT
    assert [path for _, path in asked] == ["/breaks_off", "/breaks_off", "/true"]


@pytest.mark.slow
def test_the_refusal_says_for_each_address_what_was_wrong_with_it(server, monkeypatch):
    address, *_ = server
    monkeypatch.setattr("analog_glue.download.TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ValueError) as refused:
            fetch(PublicFile("x", SHA, (f"{NOBODY_LISTENS}/x", f"{silent}/x", f"{address}/x")))
    said = str(refused.value)
    assert f"{NOBODY_LISTENS}/x gives no answer ([Errno" in said and "Connection refused" in said
    assert f"{silent}/x gives no answer (timed out)" in said and f"{address}/x gives no answer (404 Client Error" in said


def test_what_broke_in_the_cache_is_fetched_again(server, cache):
    address, files, _ = server
    files["/text"] = CONTENT
    file = PublicFile("text", SHA, (f"{address}/text",))
    fetch(file).write_bytes(CONTENT[:10])
    assert fetch(file).read_bytes() == CONTENT


@pytest.mark.slow
def test_without_a_network_the_command_names_the_setting_before_anything_starts(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(war_and_peace, "PUBLIC", PublicFile("w/warpeace_input.txt", SHA, (f"{NOBODY_LISTENS}/w",)))
    started = time.perf_counter()
    assert main(["train", "task=war_and_peace", "training=ttv2", f"output_root={tmp_path / 'outputs'}"]) == 2
    assert time.perf_counter() - started < 10
    said = capsys.readouterr().err
    assert said.startswith("Setting `data.root` must name a folder with warpeace_input.txt") and "but is null" in said
    assert "on a machine with a network" in said and not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_silent_server_is_given_up_within_seconds():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        file = PublicFile("x", SHA, (f"http://127.0.0.1:{listener.getsockname()[1]}/x",))
        started = time.perf_counter()
        with pytest.raises(ValueError, match=r"did not answer|timed out"):
            require_available([file])
        assert time.perf_counter() - started < 4


def test_a_folder_of_the_user_needs_no_network(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr(war_and_peace, "TEST_CHARACTERS", 60)
    (tmp_path / "warpeace_input.txt").write_bytes(CONTENT)
    WarAndPeace().check(str(tmp_path))
    with pytest.raises(ValueError, match=r"`data\.root` must name a folder with warpeace/.*, but is .*null to download"):
        WarAndPeace().check(str(tmp_path / "elsewhere"))


@pytest.mark.slow
def test_war_and_peace_trains_on_what_was_downloaded(server, monkeypatch, tmp_path, capsys):
    address, files, _ = server
    files["/w"] = CONTENT
    monkeypatch.setattr(war_and_peace, "PUBLIC", PublicFile("warpeace/warpeace_input.txt", SHA, (f"{address}/w",)))
    monkeypatch.setattr(war_and_peace, "TEST_CHARACTERS", 60)
    words = ["task=war_and_peace", "task.layers=1", "task.hidden=16", "task.sequence=20", "task.test_characters=20"]
    assert main(["train", *words, "training=sgd_pulsed", "training.epochs=1", f"output_root={tmp_path / 'outputs'}"]) == 0
    assert f"Downloading {address}/w" in capsys.readouterr().err


def test_mnist_is_four_packed_files(server, monkeypatch):
    address, files, _ = server
    random, hashes = np.random.default_rng(0), {}
    for name in IDX_FILES:
        shape = (3,) if "labels" in name else (3, 28, 28)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        files[f"/{name}.gz"] = gzip.compress(header + random.integers(0, 10, shape).astype(np.uint8).tobytes())
        hashes[name] = hashlib.sha256(files[f"/{name}.gz"]).hexdigest()
    monkeypatch.setattr(images, "IDX_FILES", hashes)
    monkeypatch.setattr(images, "MIRRORS", (NOBODY_LISTENS, address))
    Mnist().check(None)
    pictures, classes, *_ = Mnist()._read(None)
    assert pictures.shape == (3, 784) and classes.shape == (3,) and pictures.max() <= 9 / 255


@pytest.mark.slow
def test_the_known_content_is_that_of_the_files_at_hand():
    """Where the true files lie beside the checkout, the hashes in the code are theirs."""
    root = Path(__file__).resolve().parents[2] / "shared" / "data"
    known = [war_and_peace.PUBLIC, *images.public_files()]
    found = [(file, root / file.name) for file in known if (root / file.name).is_file()]
    if not found:
        pytest.skip("no data beside the checkout")
    for file, path in found:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    assert all(read_idx(path).size for file, path in found if "idx" in file.name)
