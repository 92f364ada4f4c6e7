"""What tasks of the laboratory do."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

#: Inputs are summed modulo this.
MODULUS = 2**61 - 1


@dataclass(frozen=True)
class Step:
    """One task: it waits, and adds a number to the sum of its inputs."""

    number: int
    pause_s: float
    #: Bytes that its result carries along: large ones travel between workers.
    ballast: int
    inputs: tuple[int, ...]


def run_step(number: int, pause_s: float, ballast: int, *inputs: tuple[int, bytes]) -> tuple:
    """The sum of the inputs and the number, and as many bytes as asked for."""
    time.sleep(pause_s)
    total = (number + sum(value for value, _ in inputs)) % MODULUS
    return total, bytes(ballast)


def plan_steps(seed: int, count: int = 120) -> list[Step]:
    """A random graph in the order of its numbers: inputs come before who needs them."""
    rng = random.Random(seed)
    steps = []
    for i in range(count):
        width = rng.choice([0, 1, 1, 2, 3]) if i else 0
        inputs = tuple(sorted(rng.sample(range(max(0, i - 20), i), min(width, i))))
        ballast = rng.choice([0, 0, 0, 10_000, 300_000])
        steps.append(Step(rng.randrange(MODULUS), rng.uniform(0, 0.04), ballast, inputs))
    return steps


def right_values(steps: list[Step]) -> list[int]:
    """What the steps give when one after the other is done here."""
    values: list[int] = []
    for step in steps:
        values.append((step.number + sum(values[i] for i in step.inputs)) % MODULUS)
    return values


def eat(megabytes: int) -> int:
    """Use that much memory, page by page."""
    eaten = []
    for _ in range(megabytes):
        eaten.append(bytearray(b"x" * 1_000_000))
    return len(eaten)


#: A hoard of 14 of these does not fit into the memory for results of a worker with 400 MB.
HEAP_BYTES = 20_000_000


def heap(number: int) -> bytes:
    """A large value that tells its number."""
    return bytes([number]) * HEAP_BYTES


def weigh(value: bytes) -> tuple[int, bytes]:
    """The number that such a value was made with; -1 if it was damaged."""
    is_whole = len(value) == HEAP_BYTES and value.count(value[0]) == HEAP_BYTES
    return (value[0] if is_whole else -1), b""
