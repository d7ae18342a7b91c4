"""How a target's waits grow with the prompt and with what runs there: least squares over all its answers.

What is kept are sums over answers and nothing derived from them, so those of two processes, added, are those of one that saw everything.
Errors count as shares of the wait: a slow answer weighs little.
"""

from collections.abc import Iterable, Sequence

Point = tuple[float, float, float]  # thousands of prompt tokens, requests that run there, the square of these
Slopes = tuple[float, float, float, float]  # seconds: for nothing, and for one more of each

SIDE = 4
_ROWS = ((0, 1, 2, 3), (1, 4, 5, 6), (2, 5, 7, 8), (3, 6, 8, 9))  # the symmetric matrix, by place among the sums
_GOALS = 10
SUMS = _GOALS + SIDE
DOUBT = 10.0  # answers' worth of doubt that a wait grows at all
MOST = 4.0  # a wait is carried no further than to so many times as long, or as short
FLAT: Slopes = (1.0, 0.0, 0.0, 0.0)


def add_all(sums: list[float], answers: Iterable[tuple[int, int, float, float]]) -> None:
    """Answers: tokens of the prompt, load, wait in seconds (more than 0), weight."""
    n, p, q, s, pp, pl, ps, ll, ls, ss, g, gp, gl, gs = sums
    for prompt_tokens, load, wait_s, weight in answers:
        prompt_k, square = prompt_tokens / 1000, load * load
        over = weight / wait_s
        one = over / wait_s
        by_prompt, by_load, by_square = one * prompt_k, one * load, one * square
        n += one
        p += by_prompt
        q += by_load
        s += by_square
        pp += by_prompt * prompt_k
        pl += by_prompt * load
        ps += by_prompt * square
        ll += by_load * load
        ls += by_load * square
        ss += by_square * square
        g += over
        gp += over * prompt_k
        gl += over * load
        gs += over * square
    sums[:] = n, p, q, s, pp, pl, ps, ll, ls, ss, g, gp, gl, gs


def slopes(sums: Sequence[float], answers: float) -> Slopes:
    """The best fit none of whose parts is negative; flat where nothing is known. `answers`: their weight."""
    doubt = 1.0 + DOUBT / max(answers, 1e-9)
    used = [0, 1, 2, 3]
    while used:
        found = _solved([[sums[_ROWS[i][j]] * (doubt if i == j and i else 1.0) for j in used] + [sums[_GOALS + i]] for i in used])
        worst = min(range(len(used)), key=found.__getitem__)
        if found[worst] >= 0.0:
            each = dict(zip(used, found, strict=True))
            fit = (each.get(0, 0.0), each.get(1, 0.0), each.get(2, 0.0), each.get(3, 0.0))
            return fit if any(fit) else FLAT
        del used[worst]
    return FLAT


def _solved(rows: list[list[float]]) -> list[float]:
    """Of a positive definite system, by elimination; what nothing is known of is 0."""
    count = len(rows)
    for at, row in enumerate(rows):
        pivot = row[at]
        if pivot <= 1e-12 * abs(row[count]) or pivot <= 0.0:
            rows[at] = [0.0] * (count + 1)
            continue
        for lower in rows[at + 1 :]:
            if factor := lower[at] / pivot:
                for place in range(at, count + 1):
                    lower[place] -= factor * row[place]
    found = [0.0] * count
    for at in range(count - 1, -1, -1):
        row = rows[at]
        if row[at] > 0.0:
            found[at] = (row[count] - sum(row[place] * found[place] for place in range(at + 1, count))) / row[at]
    return found


def height(slope: Slopes, point: Point) -> float:
    """Seconds."""
    return slope[0] + slope[1] * point[0] + slope[2] * point[1] + slope[3] * point[2]


def carries(slope: Slopes, there: Point, here: Point) -> float:
    """How many times as long one waits `here` as `there`."""
    above, below = height(slope, here), height(slope, there)
    return min(MOST, max(1.0 / MOST, above / below)) if above > 0.0 and below > 0.0 else 1.0
