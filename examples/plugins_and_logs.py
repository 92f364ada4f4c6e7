"""Plugins on every worker, events, and what tasks wrote.

Run it: python examples/plugins_and_logs.py
"""

from taskloom import Client, WorkerPlugin, get_worker


class Greeting(WorkerPlugin):
    """Gives every worker, present and future, a greeting before its first task."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name = "greeting"

    def setup(self, worker) -> None:
        worker.data["greeting"] = self.text


def greet(name: str) -> str:
    worker = get_worker()
    text = f"{worker.data['greeting']}, {name}!"
    print("greeted", name)
    worker.log_event("greetings", {"name": name})
    return text


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        client.register_plugin(Greeting("hello"))
        futures = client.map(greet, ["ada", "grace"])
        print(client.gather(futures))

        logs = client.get_task_logs(futures[0])
        print("the first task wrote:", repr("".join(record.text for record in logs)))

        events = client.get_events("greetings")
        print("events:", sorted(message["name"] for _, message in events))
