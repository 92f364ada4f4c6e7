"""Functions that tests run as tasks. Workers import this module: it stays small."""

from __future__ import annotations

import contextvars
import os
import signal
import sys
import time

variable = contextvars.ContextVar("variable", default="unset")


def inc(x):
    return x + 1


def dec(x):
    return x - 1


def add(x, y):
    return x + y


def double(x):
    return 2 * x


def total(values):
    return sum(values)


def identity(x):
    return x


def keywords(*args, **kwargs):
    return args, kwargs


def read_and_set_variable(value):
    before = variable.get()
    variable.set(value)
    return before


def slow_inc(x, delay=0.02):
    time.sleep(delay)
    return x + 1


def pid(*_):
    return os.getpid()


def fail(text="boom"):
    raise ValueError(text)


def fail_for(x, bad):
    if x == bad:
        raise ValueError(f"bad input {x}")
    return x


def touch_and_sleep(path, seconds):
    """Tell that the task runs, then take its time."""
    with open(path, "a") as file:
        file.write("started\n")
    time.sleep(seconds)
    return path


def wait_for_file(path, timeout=30):
    """Run until the file is there."""
    deadline = time.monotonic() + timeout
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.005)
    return path


def touch_and_wait(path, flag):
    """Tell that the task runs, then run until `flag` is there."""
    append_line(path, "started")
    return wait_for_file(flag)


def meet(directory, name, count, timeout=60):
    """Run until `count` tasks of different names have come to the directory: side by side."""
    append_line(os.path.join(directory, str(name)), "here")
    deadline = time.monotonic() + timeout
    while len(os.listdir(directory)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {os.listdir(directory)} came to {directory}")
        time.sleep(0.005)
    return name


def append_line(path, line):
    """One `write` of one line: lines of several processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)
    return line


def fail_times(path, times):
    """Raise on the first `times` runs, counted in a file."""
    append_line(path, "run")
    with open(path) as file:
        runs = len(file.readlines())
    if runs <= times:
        raise OSError(f"run {runs} fails")
    return runs


def die_once(path, x):
    """Kill this process on the first run; return `x` on the second."""
    if not os.path.exists(path):
        append_line(path, "died")
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def kill_me(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(30)


def segfault():
    import ctypes

    ctypes.string_at(0)


def recurse(n=0):
    return recurse(n + 1)


def exit_python():
    sys.exit(3)


def hold_gil(seconds):
    """Keep the GIL for at least `seconds`: a call of C, which does not let go of it."""
    import ctypes

    begun = time.perf_counter()
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return time.perf_counter() - begun


class StrRaises(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")

    __repr__ = __str__


class UnpicklableError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")
        self.lock = __import__("threading").Lock()


class UnpicklingRaises(Exception):
    def __init__(self, needed, also_needed):
        super().__init__(needed)


def raise_str_raises():
    raise StrRaises


def raise_unpicklable():
    raise UnpicklableError("this", "that")


def raise_unpickling_raises():
    raise UnpicklingRaises("needed", "also")


def return_lock():
    return __import__("threading").Lock()


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def fib_tasks(n):
    """Fibonacci by tasks from tasks, blocking on them."""
    from taskloom import get_client

    if n < 2:
        return n
    client = get_client()
    a = client.submit(fib_tasks, n - 1, pure=False)
    b = client.submit(fib_tasks, n - 2, pure=False)
    return a.result() + b.result()


async def async_inc(x, delay=0.0):
    import asyncio

    await asyncio.sleep(delay)
    return x + 1


async def async_fail():
    raise KeyError("async boom")
