"""A list of requests, the newest first, page by page: which requests there are by what their attempts were."""

from typing import Any

from sqlalchemy import Engine, and_, exists, or_, select

from ledger.queries import attempt_row
from ledger.row import AttemptRow
from ledger.schema import attempts
from ledger.window import Window, matching

Place = tuple[int, str]  # when a request began in microseconds, its id: where a page ended


def requests(engine: Engine, window: Window, limit: int, after: Place | None = None) -> tuple[list[list[AttemptRow]], Place | None]:
    """Requests one of whose attempts the window holds, each with all its attempts; and where the next page begins, if there is more.

    Raises KeyError for a filter that does not exist.
    """
    columns, other = attempts.c, attempts.alias()
    within = [columns.started_at_us >= window.from_us, columns.started_at_us < window.to_us, *matching(window, columns)]
    # `+ 0` keeps SQLite, which has no statistics, from looking through a team's whole time instead of the request's own few rows.
    same = (other.c.request_id == columns.request_id, other.c.attempt < columns.attempt, other.c.started_at_us + 0 >= window.from_us)
    earlier = exists().where(*same, *matching(window, other.c))
    query = select(columns.started_at_us, columns.request_id).where(*within, ~earlier)
    if after is not None:
        at_us, id = after
        query = query.where(or_(columns.started_at_us < at_us, and_(columns.started_at_us == at_us, columns.request_id < id)))
    query = query.order_by(columns.started_at_us.desc(), columns.request_id.desc()).limit(limit + 1)
    with engine.connect() as connection:
        places: list[Any] = list(connection.execute(query))
        page = [place.request_id for place in places[:limit]]
        found: dict[str, list[AttemptRow]] = {id: [] for id in page}
        for row in connection.execute(select(attempts).where(columns.request_id.in_(page)).order_by(columns.attempt)):
            found[row.request_id].append(attempt_row(row))
    return list(found.values()), (tuple(places[limit - 1]) if len(places) > limit else None)
