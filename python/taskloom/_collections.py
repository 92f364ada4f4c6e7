"""The part of the client that runs dask graphs; the work is in ``taskloom._graph``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from taskloom._policy import Retry
    from taskloom.client import Client
    from taskloom.future import Future


class Collections:
    """Graphs and collections of dask. dask is imported by the first call."""

    def _self(self) -> Client:
        """The client that this is a part of."""
        raise NotImplementedError

    def get(
        self,
        dsk: Any,
        keys: Any,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: dict[str, float] | None = None,
        sync: bool = True,
        asynchronous: bool | None = None,
        direct: bool | None = None,
        retries: int | Retry | None = None,
        priority: int = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run a dask graph and return the results of ``keys`` in their nesting.

        Parameters
        ----------
        dsk : dict, HighLevelGraph or Expr
        keys : key, or nested lists of keys
        sync : bool
            ``False`` gives futures in place of results.

        Other parameters are those of :meth:`submit`.
        """
        from taskloom import _graph

        return _graph.get(
            self._self(),
            dsk,
            keys,
            workers=workers,
            allow_other_workers=allow_other_workers,
            resources=resources,
            sync=sync,
            asynchronous=asynchronous,
            direct=direct,
            retries=retries,
            priority=priority,
            fifo_timeout=fifo_timeout,
            actors=actors,
            **kwargs,
        )

    def futures_of(self, futures: Any) -> list[Future]:
        """All futures inside an object; see :func:`taskloom.futures_of`."""
        from taskloom._registry import futures_of

        return futures_of(futures, client=self._self())

    def normalize_collection(self, collection: Any) -> Any:
        """The same collection, with futures in place of the tasks that this client holds.

        Graphs are sent like that anyway; here it shows, and the futures stay alive with it.
        """
        from taskloom import _graph

        return _graph.normalize(self._self(), collection)

    def compute(
        self,
        collections: Any,
        sync: bool = False,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool = False,
        resources: dict[str, float] | None = None,
        retries: int | Retry | None = 0,
        priority: int = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        traverse: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Compute dask collections; return a future for each one's final result.

        Parameters
        ----------
        collections : collection, or a list of them; other objects are returned as they are
        sync : bool
            Wait and return the results in place of futures.
        traverse : bool
            Look for collections inside lists, tuples and dicts.

        Other parameters are those of :meth:`submit`.
        """
        from taskloom import _graph

        return _graph.compute(
            self._self(),
            collections,
            sync=sync,
            optimize_graph=optimize_graph,
            workers=workers,
            allow_other_workers=allow_other_workers,
            resources=resources,
            retries=retries,
            priority=priority,
            fifo_timeout=fifo_timeout,
            actors=actors,
            traverse=traverse,
            **kwargs,
        )

    def persist(
        self,
        collections: Any,
        optimize_graph: bool = True,
        workers: Any = None,
        allow_other_workers: bool | None = None,
        resources: dict[str, float] | None = None,
        retries: int | Retry | None = None,
        priority: int = 0,
        fifo_timeout: Any = "60s",
        actors: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Start computing dask collections; return the same collections, backed by futures.

        Parameters are those of :meth:`compute`.
        """
        from taskloom import _graph

        return _graph.persist(
            self._self(),
            collections,
            optimize_graph=optimize_graph,
            workers=workers,
            allow_other_workers=allow_other_workers,
            resources=resources,
            retries=retries,
            priority=priority,
            fifo_timeout=fifo_timeout,
            actors=actors,
            **kwargs,
        )
