"""A FastAPI server, run by uvicorn, whose handlers wait for tasks."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException

from taskloom import Client


def divide(x: float, y: float) -> float:
    return x / y


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The client lives as long as the server."""
    async with Client(n_workers=2, threads_per_worker=1, asynchronous=True) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/divide")
async def handle(x: float, y: float) -> dict[str, float]:
    try:
        return {"result": await app.state.client.submit(divide, x, y)}
    except ZeroDivisionError as error:
        # A task's exception comes with its own type.
        raise HTTPException(400, str(error)) from error


async def main() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/divide"
        async with httpx.AsyncClient(timeout=60) as http:
            answers = await asyncio.gather(
                *(http.get(url, params={"x": 6, "y": y}) for y in range(4))
            )
        for answer in answers:
            print(answer.url.query.decode(), answer.status_code, answer.json())
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(main())
