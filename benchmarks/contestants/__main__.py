"""The process of one contestant: `python -m benchmarks.contestants NAME`.

It reads cases from standard input and answers each with a round, a line of JSON for each.
"""

import importlib
import os
import sys

from benchmarks.cases import Case


def main(name: str) -> None:
    # What libraries print must not stand among the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    contestant = importlib.import_module(f"benchmarks.contestants.{name}")
    for line in sys.stdin:
        print(contestant.measure(Case.from_json(line)).as_json(), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
