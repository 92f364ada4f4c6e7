"""Exceptions on their way from the process where they were raised to the one that asks.

An exception travels as a pickle that was proved to unpickle, its traceback as a list of frames,
and both as text, for when the pickle does not work elsewhere. Nothing here trusts the exception:
its ``__str__``, ``__repr__`` and ``__reduce__`` are user code, which may raise or never end well.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Iterator
from typing import Any

#: Texts are cut to this many characters: a message is for people.
MAX_TEXT = 64 * 1024
#: Of a deep recursion the outermost and the innermost frames are kept, this many of each.
MAX_FRAMES = 50

Frame = tuple[str, int, str]


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Shorten a text in the middle, where least is lost."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def safe_text(exception: BaseException) -> str:
    """``str(exception)``, or a substitute when that raises."""
    try:
        text = str(exception)
    except BaseException as error:  # noqa: BLE001 - user code
        return f"<no text: {type(exception).__name__}.__str__ raised {type(error).__name__}>"
    return cut(text)


def frames_of(traceback: types.TracebackType | None) -> list[Frame]:
    """File, line and function of each frame below the executor's own."""
    frames: list[Frame] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, traceback.tb_lineno or 0, code.co_name))
        traceback = traceback.tb_next
    if len(frames) > 2 * MAX_FRAMES:
        left_out = len(frames) - 2 * MAX_FRAMES
        gap = (f"<{left_out} frames left out>", 0, "…")
        frames = [*frames[:MAX_FRAMES], gap, *frames[-MAX_FRAMES:]]
    return frames


def format_frames(frames: list[Frame]) -> str:
    """The frames as Python prints them."""
    from traceback import StackSummary

    return "".join(StackSummary.from_list([(f, n, name, None) for f, n, name in frames]).format())


def format_error(exception: BaseException, frames: list[Frame], message: str) -> str:
    """The whole traceback as text, causes first."""
    text = "Traceback (most recent call last):\n" + format_frames(frames) if frames else ""
    text += f"{type(exception).__name__}: {message}\n"
    cause = exception.__cause__ or (
        None if exception.__suppress_context__ else exception.__context__
    )
    if cause is not None and cause is not exception:
        before = frames_of(cause.__traceback__)
        text = f"{format_frames(before)}{type(cause).__name__}: {safe_text(cause)}\n\n{text}"
    return cut(text)


class _Parts:
    """An exception whose class does not take its own ``args``, taken apart."""

    def __init__(self, kind: type[BaseException], args: Any, state: Any) -> None:
        self.kind = kind
        self.args = args
        self.state = state

    def rebuild(self) -> BaseException:
        """The same without running ``__init__``."""
        exception = self.kind.__new__(self.kind)
        exception.args = self.args
        exception.__dict__.update(self.state)
        return exception


def _loads(data: bytes) -> Any:
    loaded = pickle.loads(data)
    return loaded.rebuild() if isinstance(loaded, _Parts) else loaded


def _pickled(exception: BaseException) -> bytes:
    """The exception's pickle, when it comes back as the same class; otherwise nothing."""
    from taskloom._taskloom import dumps

    def whole() -> Any:
        return exception

    def parts() -> Any:
        return _Parts(type(exception), exception.args, dict(exception.__dict__))

    for form in (whole, parts):
        try:
            data = dumps(form())
            if type(_loads(data)).__name__ == type(exception).__name__:
                return data
        except BaseException:  # noqa: BLE001 - user code, RecursionError
            continue
    return b""


def type_names(kind: type[BaseException]) -> list[str]:
    """An exception class and its bases with their modules, such as ``builtins.OSError``."""
    return [f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__ if base is not object]


def dump_error(exception: BaseException) -> tuple[bytes, bytes, str, str, str, list[str]]:
    """Describe an exception.

    Returns
    -------
    (pickle, pickled frames, type name, message, traceback as text, names of type and bases)
        The pickle is empty when the exception cannot make the journey.
    """
    frames = frames_of(exception.__traceback__)
    message = safe_text(exception)
    try:
        text = format_error(exception, frames, message)
    except BaseException:  # noqa: BLE001 - e.g. RecursionError, MemoryError
        text = f"{type(exception).__name__}: {message}\n"
    kind = type(exception)
    return (
        _pickled(exception),
        pickle.dumps(frames),
        kind.__name__,
        message,
        text,
        type_names(kind),
    )


def _blank() -> Iterator[None]:
    """Never runs: its code, under other names, is the code of rebuilt frames."""
    yield


def rebuild_traceback(frames: list[Frame]) -> types.TracebackType | None:
    """A traceback object with these frames: file, line and function are right, locals empty."""
    traceback = None
    for filename, line, name in reversed(frames):
        first = max(line, 1)
        code = _blank.__code__.replace(co_filename=filename, co_name=name, co_firstlineno=first)
        # A generator that has not begun: the frame of running code would keep its callers'
        # frames, and with them whatever the program has at hand when it asks for the error.
        frame = types.FunctionType(code, {"__name__": name, "__file__": filename})().gi_frame
        traceback = types.TracebackType(traceback, frame, -1, first)
    return traceback


def load_frames(data: bytes) -> list[Frame]:
    """The frames of ``dump_error``; none when the bytes are damaged."""
    try:
        frames = pickle.loads(data) if data else []
    except Exception:  # noqa: BLE001 - bytes from a peer
        return []
    return frames if isinstance(frames, list) else []


def _own_error(type_name: str, message: str, key: Any, worker: str) -> BaseException | None:
    """The exceptions that the scheduler itself makes: it knows no pickles."""
    from taskloom import errors

    if type_name == "KilledWorker":
        return errors.KilledWorker(key, worker or None, reason=message)
    if type_name == "ActorLostError":
        return errors.ActorLostError(key, worker or None, message)
    if type_name == "NoValidWorkerError":
        return errors.NoValidWorkerError(message)
    if type_name == "WorkerUnreachableError":
        return errors.WorkerUnreachableError(message)
    if type_name == "TaskTimeout":
        return errors.TaskTimeout(message, key, hard=True)
    if type_name == "CancelledError":
        return errors.FutureCancelledError(key, "dependency-cancelled", message)
    return None


def load_error(
    exception: bytes,
    traceback: bytes,
    type_name: str,
    message: str,
    text: str,
    key: Any = None,
    worker: str = "",
) -> BaseException:
    """The exception of ``dump_error``, ready to be raised.

    Comes back with its own type when it can be unpickled here, else as a
    :class:`~taskloom.errors.RemoteError` that carries type name, message and text.
    """
    from taskloom.errors import RemoteError

    error: Any = None
    if exception:
        try:
            error = _loads(exception)
        except BaseException:  # noqa: BLE001 - user code; the class may be missing here
            error = None
    else:
        error = _own_error(type_name, message, key, worker) if not text else None
    if not isinstance(error, BaseException):
        error = RemoteError(type_name, message, text)
    try:
        return error.with_traceback(rebuild_traceback(load_frames(traceback)))
    except Exception:  # noqa: BLE001 - frames that no code object can have
        return error
