"""One picture of the playground: conditions, generated image, truth and verdict.

`python -m benchmarks.playground [--repeats 24]`. Views turn around one person, so the reference is
photographed once, as for somebody who turns a slider. Steps and guidance are the playground's own.
"""

import argparse

from benchmarks.measure import SECONDS, in_turn, report
from posedive_lib import params
from posedive_lib.study.playground import Playground, Wish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=24)
    repeats = parser.parse_args().repeats
    playground = Playground(params.load("params/mini.yaml"))
    person = next(iter(playground.people.values()))
    turns = iter(range(10**6))

    def picture():
        turn = next(turns) * 360 / repeats % 360 - 180
        return playground.draw(Wish(person, "dance_0", azimuth=turn))

    picture()  # the first one photographs the reference and fills caches
    wall, cpu, _ = in_turn({"picture": picture}, repeats)["picture"]
    report(
        "playground",
        f"{SECONDS}Median of {repeats} pictures, {Wish.steps} steps, guidance {Wish.guidance}, one "
        f"thread: {wall:.2f} s ({cpu:.2f}) each.",
    )


if __name__ == "__main__":
    main()
