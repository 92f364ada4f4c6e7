"""Web servers whose handlers wait for tasks, asked by real HTTP clients."""

import asyncio
import importlib.util
import json
import socket
import time
from pathlib import Path

import pytest

import taskloom

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_for_file(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return "slow"


async def test_a_tornado_handler_answers_others_while_one_waits_for_its_task(cluster, tmp_path):
    from tornado import gen, web
    from tornado.httpclient import AsyncHTTPClient, HTTPClientError
    from tornado.httpserver import HTTPServer
    from tornado.testing import bind_unused_port

    gate = tmp_path / "gate"

    class Slow(web.RequestHandler):
        async def get(self):
            self.write(await client.submit(wait_for_file, str(gate)))

    class Quick(web.RequestHandler):
        @gen.coroutine
        def get(self):
            first = yield client.submit(abs, -1)
            rest = yield client.gather(client.map(abs, [-2, -3]))
            self.write(json.dumps([first, *rest]))

    class Fails(web.RequestHandler):
        async def get(self):
            try:
                await client.submit(divmod, 1, 0)
            except ZeroDivisionError as error:
                raise web.HTTPError(400, reason="division") from error

    async with taskloom.Client(cluster, asynchronous=True) as client:
        app = web.Application([("/slow", Slow), ("/quick", Quick), ("/fails", Fails)])
        server = HTTPServer(app)
        listener, port = bind_unused_port()
        server.add_socket(listener)
        http = AsyncHTTPClient()
        slow = asyncio.ensure_future(http.fetch(f"http://127.0.0.1:{port}/slow"))
        quick = await http.fetch(f"http://127.0.0.1:{port}/quick")
        assert json.loads(quick.body) == [1, 2, 3]
        with pytest.raises(HTTPClientError, match="400"):
            await http.fetch(f"http://127.0.0.1:{port}/fails")
        assert not slow.done()
        gate.touch()
        assert (await slow).body == b"slow"
        server.stop()


async def test_a_fastapi_server_answers_many_requests_at_the_same_time():
    import httpx
    import uvicorn

    program = example("web_fastapi")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(program.app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/divide"
        async with httpx.AsyncClient(timeout=60) as http:
            calls = [http.get(url, params={"x": x, "y": x % 5}) for x in range(50)]
            answers = await asyncio.gather(*calls)
        server.should_exit = True
        await serving
    for x, answer in enumerate(answers):
        if x % 5:
            assert answer.json() == {"result": x / (x % 5)}
        else:
            assert (answer.status_code, answer.json()["detail"]) == (400, "float division by zero")


async def test_a_request_that_is_given_up_does_not_disturb_the_others(cluster, tmp_path):
    import aiohttp
    from aiohttp import web

    gate = tmp_path / "gate"
    ended = asyncio.Event()

    async def slow(request):
        try:
            return web.Response(text=await client.submit(wait_for_file, str(gate), pure=False))
        finally:
            ended.set()

    async def quick(request):
        return web.Response(text=str(await client.submit(abs, -5)))

    async with taskloom.Client(cluster, asynchronous=True) as client:
        app = web.Application()
        app.router.add_get("/slow", slow)
        app.router.add_get("/quick", quick)
        # Requests whose clients have gone are cancelled, and with them the wait for the task.
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as http:
            request = asyncio.ensure_future(http.get(f"{url}/slow"))
            # This client's own: others may have left keys that are not forgotten yet.
            while not client.futures:
                await asyncio.sleep(0.01)
            request.cancel()
            await asyncio.wait_for(ended.wait(), 30)
            async with http.get(f"{url}/quick") as answer:
                assert await answer.text() == "5"
        gate.touch()
        await runner.cleanup()
