"""An aiohttp server that answers each request by a map over the cluster, item by item."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from taskloom import Client, as_completed

CLIENT: web.AppKey[Client] = web.AppKey("client", Client)


def word_length(word: str) -> tuple[str, int]:
    return word, len(word)


async def connect(app: web.Application) -> AsyncIterator[None]:
    """The client lives as long as the application."""
    async with Client(n_workers=2, threads_per_worker=1, asynchronous=True) as client:
        app[CLIENT] = client
        yield


async def lengths(request: web.Request) -> web.Response:
    words = (await request.text()).split()
    found = {}
    futures = request.app[CLIENT].map(word_length, words)
    async for _future, (word, length) in as_completed(futures, with_results=True):
        found[word] = length
    return web.json_response({word: found[word] for word in words})


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(connect)
    app.router.add_post("/lengths", lengths)
    return app


async def main() -> None:
    runner = web.AppRunner(make_app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        for text in ("one two three", "to be or not"):
            async with http.post(f"http://127.0.0.1:{port}/lengths", data=text) as answer:
                print(text, "->", await answer.json())
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
