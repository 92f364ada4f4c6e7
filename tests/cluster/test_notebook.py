"""What notebooks show: objects as HTML, and the progress bar."""

import io
import sys

import pytest

import taskloom
from taskloom import progress
from tests.support import wait_until


def test_a_client_shows_where_it_is_connected_to_and_what_is_there(client):
    html = client._repr_html_()
    assert client.scheduler_address in html
    assert "<th style='text-align: left'>workers</th>" in html
    assert "<tt>2</tt>" in html


def test_a_client_that_is_not_connected_shows_its_state(cluster):
    with taskloom.Client(cluster) as client:
        pass
    assert "closed" in client._repr_html_()


def test_a_cluster_shows_itself_open_and_closed():
    with taskloom.LocalCluster(n_workers=1, processes=False, name="<b>&me") as cluster:
        html = cluster._repr_html_()
        assert cluster.scheduler_address in html
        assert "&lt;b&gt;&amp;me" in html
        assert "<b>&me" not in html
    assert "closed" in cluster._repr_html_()


def test_a_future_shows_its_key_and_nothing_that_the_key_could_do(client):
    html = client.submit(abs, -1, key="<script>")._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


async def test_objects_of_an_asynchronous_client_show_themselves_at_once(cluster):
    unconnected = taskloom.Client(cluster.scheduler_address, asynchronous=True)
    assert "connecting" in unconnected._repr_html_()
    async with unconnected as client:
        assert client.scheduler_address in client._repr_html_()
    async with taskloom.LocalCluster(n_workers=1, processes=False, asynchronous=True) as own:
        assert own.scheduler_address in own._repr_html_()


async def test_progress_of_an_asynchronous_client_is_awaited(cluster, capsys):
    async with taskloom.Client(cluster, asynchronous=True) as client:
        await progress(client.map(abs, range(-5, 0)))
    assert "100% completed" in capsys.readouterr().out


def test_progress_ends_with_all_done_also_when_some_fail(client, capsys):
    futures = [client.submit(divmod, 1, 0), *client.map(abs, range(-5, 0))]
    assert progress(futures) is None
    assert "100% completed" in capsys.readouterr().out
    assert all(future.done() for future in futures)


def test_progress_of_nothing_is_done(capsys):
    progress([])
    assert "100% completed" in capsys.readouterr().out


def test_progress_in_a_notebook_is_a_widget_that_goes_on_by_itself(client):
    pytest.importorskip("ipywidgets")
    futures = client.map(abs, range(-5, 0))
    box = progress(futures, notebook=True)
    bar, label = box.children
    wait_until(lambda: bar.bar_style == "success", "the bar is full")
    assert bar.value == bar.max == 5
    assert label.value.startswith("5 of 5 done")
    failing = progress(client.submit(divmod, 1, 0), notebook=True)
    wait_until(lambda: failing.children[0].bar_style == "danger", "a failure is shown")


def test_progress_in_a_notebook_without_widgets_is_text(client, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    progress(client.map(abs, range(-5, 0)), notebook=True)
    assert "100% completed" in capsys.readouterr().out


def test_progress_in_a_terminal_draws_on_the_way(client, monkeypatch, tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    gate = tmp_path / "gate"

    def wait_for(path):
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.01)

    class Opening(Terminal):
        """Opens the gate once something was drawn."""

        def write(self, text):
            gate.touch()
            return super().write(text)

    out = Opening()
    monkeypatch.setattr(sys, "stdout", out)
    progress(client.submit(wait_for, str(gate)), interval="10ms")
    monkeypatch.undo()
    assert "0% completed" in out.getvalue()
    assert out.getvalue().rstrip().split("\r")[-1].startswith("[####")


def test_an_unknown_keyword_of_progress_is_a_type_error(client):
    with pytest.raises(TypeError, match="no_such"):
        progress([], no_such=1)
