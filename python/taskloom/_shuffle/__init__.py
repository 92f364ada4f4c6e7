"""The shuffle: rows (or parts of arrays) of all inputs go to all outputs.

- ``graphs``: in the client, from dask's expressions and layers to tasks.
- ``tasks``: what runs on workers: transfers, the barrier, and the reading of one output.
- ``files``: one file per input with the shards for all outputs, and where to read which.
- ``manifest``: the list of all files, and how a reader gets at them, here or on another host.
- ``frames``, ``arrays``: from data to shards and back.

See ``docs/design/shuffle.md``.
"""
