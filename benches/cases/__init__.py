"""One module per row of the table.

A case has ``ORDER``, ``TITLE``, ``METRICS`` (metric to unit), ``SYSTEMS``, ``TARGETS``, and one
function per family of systems that it runs on: ``client`` (taskloom and distributed),
``process_pool``, ``dask_threads``, ``ray``. Each takes the open system and whether to be quick,
and returns its metrics.
"""
