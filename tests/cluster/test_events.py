"""Events by topic, and what tasks show at the client."""

import logging
import warnings

import pytest

import taskloom
from taskloom import Client, get_worker
from tests.support import wait_until


def log_from_task(topic, message):
    get_worker().log_event(topic, message)


def print_from_task(*args, **kwargs):
    taskloom.print(*args, **kwargs)


def warn_from_task(message):
    taskloom.warn(message, RuntimeWarning)


def log_record(name, level, message):
    logging.getLogger(name).log(level, message)


def test_events_are_kept_in_order_with_their_times(client):
    client.log_event("order", {"n": 1})
    client.log_event(["order", "other"], {"n": 2})
    events = client.get_events("order")
    assert [message["n"] for _, message in events] == [1, 2]
    assert events[0][0] <= events[1][0]
    assert [message for _, message in client.get_events()["other"]] == [{"n": 2}]


def test_a_topic_without_events_is_empty(client):
    assert client.get_events("nothing here") == ()


def test_tasks_record_events(client):
    client.submit(log_from_task, "from-task", (1, "two"), pure=False).result()
    wait_until(lambda: client.get_events("from-task"), "the event is kept")
    assert client.get_events("from-task")[0][1] == (1, "two")


def test_a_topic_keeps_a_bounded_number_of_events(client):
    for n in range(10_050):
        taskloom._taskloom.log_event(client._core, ["many"], taskloom._taskloom.dumps(n))
    events = client.get_events("many")
    assert len(events) == 10_000
    assert events[-1][1] == 10_049


def test_a_handler_hears_the_events_of_all_until_it_is_unsubscribed(client, cluster):
    heard = []
    client.subscribe_topic("heard", lambda event: heard.append(event[1]))
    with Client(cluster, set_as_default=False) as other:
        other.log_event("heard", 1)
    client.submit(log_from_task, "heard", 2, pure=False).result()
    wait_until(lambda: sorted(heard) == [1, 2], "both are heard")
    client.unsubscribe_topic("heard")
    client.log_event("heard", 3)
    client.log_event("after", 1)
    assert sorted(heard) == [1, 2]
    with pytest.raises(ValueError, match="heard"):
        client.unsubscribe_topic("heard")


def test_a_handler_that_raises_is_logged_and_goes_on(client, caplog):
    heard = []

    def fails(event):
        heard.append(event[1])
        raise ValueError("no good")

    client.subscribe_topic("fails", fails)
    client.log_event("fails", 1)
    client.log_event("fails", 2)
    wait_until(lambda: heard == [1, 2], "both are heard")
    assert "no good" in caplog.text


def test_a_coroutine_function_is_a_handler(client):
    heard = []

    async def handler(event):
        heard.append(event[1])

    client.subscribe_topic("coroutine", handler)
    client.log_event("coroutine", 5)
    wait_until(lambda: heard == [5], "it is heard")


def test_a_topic_must_be_text_and_a_handler_callable(client):
    with pytest.raises(TypeError, match="topic"):
        client.log_event(5, "x")
    with pytest.raises(TypeError, match="topic"):
        client.get_events(5)
    with pytest.raises(TypeError, match="callable"):
        client.subscribe_topic("x", "no function")


def test_the_scheduler_tells_who_comes_and_goes(client, cluster):
    with Client(cluster, name="guest", set_as_default=False):
        pass
    wait_until(
        lambda: any(
            event["action"] == "remove-client" and "guest" in event["client"]
            for _, event in client.get_events("all")
        ),
        "the guest's leave is told",
    )
    actions = [event["action"] for _, event in client.get_events("all")]
    assert actions.count("add-worker") == 2


def test_what_a_task_prints_is_shown_at_the_client(client, capsys):
    client.submit(print_from_task, "a", 1, sep="-", pure=False).result()
    shown = ""

    def is_shown():
        nonlocal shown
        shown += capsys.readouterr().out
        return "a-1\n" in shown

    wait_until(is_shown, "the text is printed here")


def test_a_warning_of_a_task_is_one_at_the_client(client):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(warn_from_task, "mind the gap", pure=False).result()
        # Others may warn meanwhile, of what is collected here.
        told = lambda: [w for w in caught if "mind the gap" in str(w.message)]  # noqa: E731
        wait_until(told, "it is warned here")
    assert [warning.category for warning in told()] == [RuntimeWarning]


def test_print_and_warn_work_outside_of_tasks(capsys):
    taskloom.print("here", end="!")
    assert capsys.readouterr().out == "here!"
    with pytest.warns(UserWarning, match="here too"):
        taskloom.warn("here too")


def test_log_records_are_forwarded_until_they_are_not(client, caplog):
    client.forward_logging("my.app", logging.ERROR)
    future = client.submit(log_record, "my.app.part", logging.ERROR, "went wrong", pure=False)
    future.result()
    wait_until(lambda: "went wrong" in caplog.text, "the record is handled here")
    client.submit(log_record, "my.app", logging.WARNING, "too low", pure=False).result()
    client.unforward_logging("my.app")
    client.submit(log_record, "my.app", logging.ERROR, "not any more", pure=False).result()
    client.log_event("barrier", 1)
    assert "too low" not in caplog.text
    assert "not any more" not in caplog.text


class Deeper:
    """Pickling it never ends."""

    def __reduce__(self):
        return (Deeper, (Deeper(),))


def log_what_recurses():
    mine = []
    mine.append(mine)
    get_worker().log_event("recursive", mine)
    try:
        get_worker().log_event("recursive", Deeper())
    except RecursionError:
        return "refused"


def test_recursive_messages_arrive_or_are_refused_at_once(client):
    """D38: they once left a client waiting for ever."""
    mine = []
    mine.append(mine)
    client.log_event("recursive", mine)
    ((_, message),) = client.get_events("recursive")
    assert message[0] is message
    with pytest.raises(RecursionError):
        client.log_event("recursive", Deeper())
    assert client.submit(log_what_recurses, pure=False).result(timeout=20) == "refused"
    wait_until(lambda: len(client.get_events("recursive")) == 2, "the task's event is kept")
    assert client.submit(abs, -1, pure=False).result(timeout=20) == 1
