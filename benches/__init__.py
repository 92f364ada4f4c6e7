"""Benchmarks: the same work on taskloom and on its peers, alternating, on one machine.

``make bench`` runs them; ``docs/benchmarks.md`` explains what is measured and shows the result.
A case is a module of ``benches.cases``; a sample is one case on one system in a fresh process.
"""
