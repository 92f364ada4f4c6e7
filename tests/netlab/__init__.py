"""The network laboratory: scheduler, workers and client as hosts of their own, under real faults.

Every host is a network namespace of this machine, joined to the others by a bridge in one more
namespace: the machine's own network is never touched. A run is a seed: it gives the workloads and
the faults of all rounds, each fault a record, so that a run can be repeated and reduced.

- `shell`: commands, and what they need; `network`: namespaces, links, what is cut.
- `relay`: a link with delay, loss, duplication and reordering, for what the kernel lacks.
- `cluster`: the processes on the hosts; `workload`, `probe`: programs that run on the client's.
- `parting`: one scene by itself, two workers that never meet again.
- `faults`: what is done to them; `plan`: which faults, when; `checks`: what must hold afterwards.

``make test-netlab``, or ``python -m tests.netlab --help``.
"""
