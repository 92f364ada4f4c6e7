"""What the scheduler knows, as one line of JSON: ``python -m tests.netlab.probe ADDRESS``."""

from __future__ import annotations

import json
import sys

from taskloom import Client


def main() -> None:
    with Client(sys.argv[1], timeout=5) as client:
        info = client.scheduler_info()
        facts = {
            "workers": {str(w["name"]): w["pid"] for w in info["workers"].values()},
            "tasks": {state: n for state, n in info.get("tasks", {}).items() if n},
            "counters": client.counters(),
        }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
