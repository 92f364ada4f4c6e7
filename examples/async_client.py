"""Tasks awaited from an asyncio program: no thread is blocked while they run."""

import asyncio

from taskloom import Client, as_completed


async def slow_square(x: int) -> int:
    """Coroutine functions run on the worker's event loop and occupy no thread."""
    await asyncio.sleep(0.05)
    return x * x


async def main() -> None:
    async with Client(n_workers=2, threads_per_worker=1, asynchronous=True) as client:
        futures = client.map(slow_square, range(20))
        total = 0
        async for _future, result in as_completed(futures, with_results=True):
            total += result
        print("sum of squares:", total)
        print("gathered again:", sum(await client.gather(futures)))


if __name__ == "__main__":
    asyncio.run(main())
