"""Runs a program of `libraries` on one engine: ENGINE PROGRAM DIRECTORY; facts go to a file."""

import importlib
import json
import sys
from pathlib import Path


def main(engine: str, program: str, directory: str) -> None:
    if engine == "taskloom":
        import taskloom.compat

        taskloom.compat.install()
    from dask.distributed import Client

    facts: list[str] = []
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        assert type(client).__module__.startswith(engine)
        client.wait_for_workers(2)
        module = importlib.import_module(f"tests.compat.libraries.{program}")
        module.main(client, directory, lambda *fact: facts.append(str(fact)))
    Path(directory, "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
