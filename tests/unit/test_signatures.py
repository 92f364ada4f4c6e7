"""Programs written for dask.distributed call with the same names and defaults."""

import inspect

import distributed
import pytest

import taskloom

# What distributed offers there and taskloom does not, each with the reason.
LEFT_OUT = {
    "Client": {
        "serializers": "one wire format",
        "deserializers": "one wire format",
        "extensions": "no scheduler extensions",
        "connection_limit": "one connection per peer",
    },
}

METHODS = [
    "submit", "map", "gather", "scatter", "compute", "persist", "get", "cancel", "retry",
    "wait_for_workers", "nthreads", "ncores", "scheduler_info", "who_has", "has_what",
    "processing", "nbytes", "call_stack", "run", "close", "shutdown", "restart",
    "retire_workers", "get_executor", "as_current", "log_event", "get_events", "subscribe_topic",
    "unsubscribe_topic", "register_plugin", "unregister_worker_plugin",
    "unregister_scheduler_plugin", "register_worker_callbacks", "upload_file", "run_on_scheduler",
    "forward_logging", "unforward_logging", "get_worker_logs", "get_scheduler_logs",
    "get_versions", "dump_cluster_state", "replicate", "rebalance", "story", "restart_workers",
]  # fmt: skip
FUTURE_METHODS = [
    "result", "exception", "traceback", "cancel", "cancelled", "retry", "done", "release",
    "add_done_callback",
]  # fmt: skip
FUNCTIONS = [
    "as_completed", "wait", "fire_and_forget", "get_client", "worker_client", "secede", "rejoin",
    "get_worker", "default_client", "futures_of", "progress",
]  # fmt: skip


def named(function) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in kinds and name != "self"
    }


def assert_accepts_the_same(ours, theirs, left_out=()):
    mine, reference = named(ours), named(theirs)
    takes_any = any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in inspect.signature(ours).parameters.values()
    )
    missing = set(reference) - set(mine) - set(left_out)
    assert takes_any or not missing, f"missing parameters: {sorted(missing)}"
    for name in set(mine) & set(reference):
        expected, found = reference[name].default, mine[name].default
        if isinstance(expected, (bool, int, type(None))) and name != "timeout":
            assert found == expected, f"default of {name}: {found!r}, there {expected!r}"


@pytest.mark.parametrize("name", METHODS)
def test_client_method(name):
    assert_accepts_the_same(getattr(taskloom.Client, name), getattr(distributed.Client, name))


@pytest.mark.parametrize("name", FUTURE_METHODS)
def test_future_method(name):
    assert_accepts_the_same(getattr(taskloom.Future, name), getattr(distributed.Future, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    assert_accepts_the_same(getattr(taskloom, name), getattr(distributed, name))


def test_client_constructor():
    assert_accepts_the_same(taskloom.Client, distributed.Client, LEFT_OUT["Client"])


def test_public_methods_have_docstrings():
    for name in METHODS:
        assert inspect.getdoc(getattr(taskloom.Client, name)), name
    for name in FUTURE_METHODS:
        assert inspect.getdoc(getattr(taskloom.Future, name)), name
    for name in FUNCTIONS:
        assert inspect.getdoc(getattr(taskloom, name)), name
