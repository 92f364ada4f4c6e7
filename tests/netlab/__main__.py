"""Run the laboratory: ``python -m tests.netlab [--seed N] [--rounds N] [--seconds S]``."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.netlab import checks
from tests.netlab.cluster import HOSTS, SMALL, WORKERS, Lab
from tests.netlab.faults import KINDS, Fault
from tests.netlab.network import Network, wait_until_reachable
from tests.netlab.plan import RELAYED, Round, plan_round
from tests.netlab.shell import Unsuitable, require
from tests.netlab.smallness import SmallDisk

#: Faults after which a client may get errors in place of values.
HARMFUL = {"kill-scheduler", "stop-scheduler", "kill-client", "cut", "cut-one-way", "reset"}
#: Rounds end by then whatever happens: no future waits longer, see `workload.PATIENCE_S`.
ROUND_S = 150
#: After as many failed rounds the rest would say little new.
MAX_FAILURES = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.netlab", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all rounds; printed when it is drawn")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--seconds", type=float, default=540, help="begin no round after this")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), help="only these faults")
    parser.add_argument("--record", type=Path, help="write rounds and outcomes here, as JSON lines")
    parser.add_argument("--check", action="store_true", help="only say whether it can run here")
    parser.add_argument("--replay", type=Path, help="repeat the rounds of such a file")
    return parser.parse_args()


def planned(options: argparse.Namespace) -> list[Round]:
    if options.replay:
        lines = options.replay.read_text().splitlines()
        return [Round.from_record(json.loads(line)) for line in lines]
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}; again: python -m tests.netlab --seed {seed}", flush=True)
    kinds = options.kinds or KINDS
    numbers = range(options.first, options.first + options.rounds)
    return [plan_round(seed, number, kinds) for number in numbers]


def play(lab: Lab, planned_round: Round) -> tuple[dict[str, int], bool]:
    """A workload under faults; how its futures ended, and whether its client was killed.

    That a task which eats all memory ends with its worker's death is no harm to others.
    """
    client = lab.start_client(str(planned_round.seed))
    others: list[subprocess.Popen[str]] = []
    begun = time.monotonic()
    acts = [(fault.at_s, 0, fault) for fault in planned_round.faults]
    acts += [(fault.at_s + fault.duration_s, 1, fault) for fault in planned_round.faults]
    was_killed = False
    for at_s, which, fault in sorted(acts, key=lambda act: act[:2]):
        time.sleep(max(0.0, begun + at_s - time.monotonic()))
        KINDS[fault.kind][which](lab, fault)
        if fault.kind == "kill-client" and which == 0:
            client.kill()
            was_killed = True
        if fault.kind == "eat-memory" and which == 0 and lab.has_small_memory:
            others.append(lab.start_client("eat", fault.target))
        if fault.kind == "full-disk" and which == 0:
            others.append(lab.start_client("hoard", fault.target))
    ends = finish(client)
    for end, count in (item for other in others for item in finish(other).items()):
        ends[end] = ends.get(end, 0) + count
    if "eaten" in ends:
        lab.renew_worker(SMALL)
    return ends, was_killed


def finish(client: subprocess.Popen[str]) -> dict[str, int]:
    """What the program says at its end."""
    try:
        out, _ = client.communicate(timeout=ROUND_S)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        return {"pending": 1}
    return json.loads(out) if out.strip() else {}


def run_round(lab: Lab, planned_round: Round, baseline: checks.Baseline) -> list[str]:
    kinds = {fault.kind for fault in planned_round.faults}
    ends, was_killed = play(lab, planned_round)
    problems = checks.judge_ends(ends, faults_harm_client=bool(kinds & HARMFUL))
    if not ends and not was_killed:
        problems.append("the client's program ended without a word")
    try:
        facts = checks.wait_until_whole(lab)
        problems += checks.check_processes(lab)
        problems += checks.check_scheduler(lab, facts, baseline)
    except AssertionError as error:
        problems.append(str(error))
    shown = " ".join(f"{end}:{n}" for end, n in sorted(ends.items()))
    words = ", ".join(describe(fault) for fault in planned_round.faults)
    print(f"round {planned_round.number:>3}: {words} -> {shown or 'nothing'}", flush=True)
    return problems


def describe(fault: Fault) -> str:
    hosts = f"{fault.target}>{fault.other}" if fault.other else fault.target
    return f"{fault.kind} {hosts} {fault.at_s:g}+{fault.duration_s:g}s"


def explain(lab: Lab, planned_round: Round, problems: list[str]) -> None:
    print(f"round {planned_round.number} FAILED: {json.dumps(planned_round.record())}")
    for problem in problems:
        print(f"  {problem}")
    for host in HOSTS:
        print(f"--- log of {host}\n{lab.log_of(host)}")
    sys.stdout.flush()


def play_rounds(lab: Lab, rounds: list[Round], options: argparse.Namespace) -> tuple[int, int]:
    """How many rounds were played, and how many failed."""
    failures = done = 0
    begun = time.monotonic()
    baseline = checks.Baseline()
    with contextlib.ExitStack() as stack:
        record = stack.enter_context(options.record.open("w")) if options.record else None
        for planned_round in rounds:
            if time.monotonic() > begun + options.seconds or failures >= MAX_FAILURES:
                break
            problems = run_round(lab, planned_round, baseline)
            done += 1
            if record:
                line = json.dumps({**planned_round.record(), "problems": problems})
                record.write(line + "\n")
                record.flush()
            if problems:
                failures += 1
                explain(lab, planned_round, problems)
    print(summary(rounds, done, time.monotonic() - begun), flush=True)
    return done, failures


def summary(rounds: list[Round], done: int, seconds: float) -> str:
    """How many faults of each kind there were, how long it took, and what was not reached."""
    kinds = Counter(fault.kind for played in rounds[:done] for fault in played.faults)
    counts = ", ".join(f"{kind} {kinds[kind]}" for kind in sorted(KINDS))
    pace = f"{done} rounds in {seconds:.0f} s, {seconds / max(done, 1):.1f} s each"
    lines = [f"faults: {counts}", pace]
    if done < len(rounds):
        missing = f"NOT ALL ROUNDS RAN: {len(rounds) - done} of {len(rounds)} were not reached"
        lines.append(f"{missing}; the next is --first {rounds[done].number}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    rounds = planned(options)
    with (
        tempfile.TemporaryDirectory(prefix="taskloom-netlab-") as name,
        SmallDisk(Path(name) / "disk") as disk,
    ):
        directory = Path(name)
        with Network(HOSTS, relayed=RELAYED) as network, Lab(network, directory, disk) as lab:
            for host in WORKERS:
                wait_until_reachable(network, host, "sched")
            checks.wait_until_whole(lab)
            if not lab.has_small_memory:
                print("memory cannot be bounded here (no cgroup): eat-memory is left out")
            done, failures = play_rounds(lab, rounds, options)
        left = checks.left_files(directory)
        if left:
            failures += 1
            print(f"files are left: {left[:20]}")
        processes = checks.shared_memory(directory)
        if processes:
            failures += 1
            print(f"processes are left that have shared memory: {processes}")
    print(f"{done} rounds of {len(rounds)}, {failures} failures")
    return 1 if failures or not done else 0


def main() -> int:
    options = arguments()
    # So that nothing is left behind by who is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require()
    except Unsuitable as unsuitable:
        print(f"the network laboratory cannot run here: {unsuitable}", file=sys.stderr)
        return 2
    return 0 if options.check else run(options)


if __name__ == "__main__":
    sys.exit(main())
