"""A tornado server whose handlers wait for tasks: with `await`, and by `yield`."""

import asyncio

from tornado import gen, web
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from taskloom import Client


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Handler(web.RequestHandler):
    def initialize(self, client: Client) -> None:
        self.client = client

    async def get(self, n: str) -> None:
        # The loop serves other requests while a worker computes.
        self.write({"result": await self.client.submit(fibonacci, int(n))})


class OldStyleHandler(Handler):
    @gen.coroutine
    def get(self, n):
        result = yield self.client.submit(fibonacci, int(n))
        self.write({"result": result})


def make_app(client: Client) -> web.Application:
    return web.Application(
        [
            (r"/fibonacci/(\d+)", Handler, {"client": client}),
            (r"/old/(\d+)", OldStyleHandler, {"client": client}),
        ]
    )


async def main() -> None:
    async with Client(n_workers=2, threads_per_worker=1, asynchronous=True) as client:
        server = HTTPServer(make_app(client))
        socket, port = bind_unused_port()
        server.add_socket(socket)
        http = AsyncHTTPClient()
        paths = [f"/fibonacci/{n}" for n in range(10, 15)] + ["/old/20"]
        answers = await asyncio.gather(
            *(http.fetch(f"http://127.0.0.1:{port}{path}") for path in paths)
        )
        for path, answer in zip(paths, answers, strict=True):
            print(path, answer.body.decode())
        server.stop()


if __name__ == "__main__":
    asyncio.run(main())
