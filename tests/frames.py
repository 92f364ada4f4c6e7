"""Frames and functions for the tests of shuffles; workers import them."""

import os
import resource
import time
import uuid


def awkward(rows, seed=0):
    """A frame with missing values and a column of each type that is easily broken."""
    import numpy as np
    import pandas as pd

    chance = np.random.default_rng(seed)
    missing = chance.random(rows) < 0.1
    x = chance.random(rows)
    x[missing] = np.nan
    words = pd.array(chance.choice(["a", "bb", "", "ünï"], rows), dtype="str")
    words[missing] = None
    days = pd.date_range("2024-03-30", periods=rows, freq="h")
    frame = pd.DataFrame(
        {
            "n": np.arange(rows),
            "key": chance.integers(0, 25, rows),
            "x": x,
            "small": chance.integers(-3, 3, rows).astype("int8"),
            "flag": chance.random(rows) < 0.5,
            "word": words,
            "letter": pd.Categorical(chance.choice(list("xyz"), rows), ordered=True),
            "maybe": pd.array(np.where(missing, None, np.arange(rows)), dtype="Int64"),
            "when": days.as_unit("ms"),
            "there": days.tz_localize("UTC").tz_convert("Europe/Berlin"),
            "span": pd.to_timedelta(np.arange(rows), unit="s"),
        }
    )
    frame.loc[missing, "when"] = pd.NaT
    frame.index = pd.Index(np.arange(rows) * 2, name="even")
    return frame


def pick(frame):
    return frame


def span(group):
    return int(group["n"].max() - group["n"].min())


def slowly(frame):
    time.sleep(0.05)
    return frame


def noted(frame, directory):
    """Leaves a file for each run. Goes on once two processes have run some."""
    with open(os.path.join(directory, f"{os.getpid()}-{uuid.uuid4().hex}"), "w"):
        pass
    deadline = time.monotonic() + 60
    while len({name.split("-")[0] for name in os.listdir(directory)}) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("one process runs all")
        time.sleep(0.005)
    return frame


def behind(frame, gate):
    """Goes on once a file is there."""
    while len(frame) and not os.path.exists(gate):
        time.sleep(0.02)
    return frame


def larger(frame):
    import pandas as pd

    return pd.concat([frame] * 50)


def limit_files(size_bytes):
    """Lets the kernel refuse to write larger files in this process; `None` takes it back."""
    soft = resource.RLIM_INFINITY if size_bytes is None else size_bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))


def shard_directory():
    """Where this process writes files of shuffles."""
    from taskloom import get_worker
    from taskloom._taskloom import CoreWorker

    try:
        place = get_worker()._core.local_directory
    except ValueError:
        place = ""
    return CoreWorker.shard_directory(place)


def shard_files():
    """Files of shuffles that this process has."""
    return os.listdir(shard_directory())


def pretend_to_be_far(is_far):
    """Lets this process find no file of others, as on another host."""
    from taskloom._shuffle.files import ShardReader

    if not hasattr(ShardReader, "real_open"):
        ShardReader.real_open = ShardReader.open

    def missing(shards):
        raise FileNotFoundError(shards.path)

    ShardReader.open = missing if is_far else ShardReader.real_open


def remove_shards():
    """Somebody tidies up where he should not."""
    for name in os.listdir(shard_directory()):
        os.unlink(os.path.join(shard_directory(), name))
