"""The fault table: what an upstream does, and what the caller must see, with another target, without one, and with `recovery: hold`.

`source`: a number of the upstream cases of the design's list of faults, or `16`: one of the sixteen of the issue on routing.
"""

import gzip
from dataclasses import replace
from typing import Any

from tests.faults import upstreams as up
from tests.faults.rows import Address, Expect, Plan, Row

SHORT = "{headers_s: 1, first_token_s: 4, idle_s: 1, total_s: 8}"
STREAMED = ("chat", "messages", "responses")
HTML = b"<!doctype html><title>CANARY-upstream-text</title>"
MOST_SENT = 80 << 20  # bytes: of an event 64 MiB are read, and what the buffers on the way hold is sent too
HELD = r"(?:abandoned |failed |cut )?"  # what the ledger calls an attempt whose output nobody saw


def answered(by: str, *failed: str, **more: Any) -> Expect:
    """By a or b, in full, after these failures of a."""
    return Expect(200, f"{by}:60", ", ".join([*(f"a {code}" for code in failed), f"{by} ok"]), **more)


def refused(status: int, code: str, times: str = "x1", **more: Any) -> Expect:
    return Expect(status, code, f"a {code} {times}", **more)


def cut(count: int | str, code: str, **more: Any) -> Expect:
    """After `count` tokens, told in the answer's own band."""
    return Expect(200, rf"a:{count} {code}", f"a cut {code}", **more)


def held(expect: Expect) -> Expect:
    """What the caller sees where the stream runs behind the upstream: a cut is mended unseen, all else is as it is."""
    if not expect.trail.startswith("a cut "):
        return expect
    return replace(expect, answer="b:60", trail=f"a {HELD}{expect.trail.removeprefix('a cut ')} x1-2, b ok")


Both = Expect | tuple[Expect, Expect]  # streamed and unary alike, or apart


def row(name: str, source: str, a: up.Fault | tuple[up.Fault, ...], fallback: Both, alone: Both, hold: Both | None = None, **more: Any) -> Row:
    """`hold`: where it is not what follows from the fallback's."""
    faults = a if isinstance(a, tuple) else (a,)
    more.setdefault("b", (up.good,))
    stream, unary = (plans(side(fallback, index), side(alone, index)) for index in (0, 1))
    if hold is not None:
        stream["hold"], unary["hold"] = side(hold, 0), side(hold, 1)
    return Row(name, source, faults, stream, unary, **more)


def side(both: Both, index: int) -> Expect:
    return both[index] if isinstance(both, tuple) else both


def plans(fallback: Expect, alone: Expect) -> dict[Plan, Expect]:
    return {"fallback": fallback, "alone": alone, "hold": held(fallback)}


def mended(code: str, times: str = "x1", **more: Any) -> Expect:
    """By b, after a failed so many times."""
    return Expect(200, "b:60", f"a {code} {times}, b ok", **more)


FILTERED = (answered("a", filtered=True), answered("a", filtered=True))
ONCE_MORE = "x2"  # the first retry goes to the same target


def limits() -> list[Row]:
    code, quota = "upstream_rate_limited", "upstream_quota_exhausted"
    soon = {"elapsed": (0.0, 1.0)}
    return [
        row(
            "429 with Retry-After 2, then well", "1, 16", (up.fails(up.LIMITED, retry_after="2"), up.good),
            answered("b", code, **soon), answered("a", code, elapsed=(1.8, 4.0), apart=1.8),
        ),
        row(
            "429 with Retry-After 2 for ever", "1", up.fails(up.LIMITED, retry_after="2"),
            answered("b", code, **soon), refused(429, code, "x2", elapsed=(1.8, 4.0), apart=1.8, retry_after=(2, 60)),
        ),
        row(
            "429 with Retry-After 30", "1", up.fails(up.LIMITED, retry_after="30"),
            answered("b", code, **soon), refused(429, code, retry_after=(29, 60), **soon),
        ),
        row(
            "429 with Retry-After 1000", "1", up.fails(up.LIMITED, retry_after="1000"),
            answered("b", code, **soon), refused(429, code, retry_after=(999, 1001), **soon),
        ),
        row("429 for ever", "2, 16", up.fails(up.LIMITED), answered("b", code, **soon), refused(429, code, "x1-4", elapsed=(0.0, 3.0))),
        row("quota used up", "2", up.fails(up.QUOTA), answered("b", quota), refused(429, quota)),
    ]  # fmt: skip


def servers() -> list[Row]:
    code, busy = "upstream_error", "upstream_overloaded"
    cooling: dict[str, Any] = {"retry_after": (29, 60), "breaker": "cooling"}
    return [
        row("well", "-", up.good, answered("a"), answered("a")),
        row("500 once", "3, 16", (up.fails(up.SERVER), up.good), answered("a", code), answered("a", code)),
        row("500 for ever", "3, 16", up.fails(up.SERVER), mended(code, ONCE_MORE), refused(502, code, "x3", breaker="open")),
        row("502 for ever, from a proxy", "3", up.no_words(502), mended(code, ONCE_MORE), refused(502, code, "x3", breaker="open")),
        row("503 once", "3", (up.fails(up.OVERLOADED), up.good), answered("b", busy), answered("a", busy)),
        row("503 for ever", "3, 16", up.fails(up.OVERLOADED), mended(busy, "x1-2"), refused(503, busy, "x1-3", breaker="open")),
        row(
            "503 with Retry-After 30", "3", up.fails(up.OVERLOADED, retry_after="30"),
            mended(busy, breaker="cooling"), refused(503, busy, **cooling),
        ),
        row("529 for ever", "3", up.fails(up.OVERLOADED, 529), mended(busy, "x1-2"), refused(503, busy, "x1-3", breaker="open")),
    ]  # fmt: skip


def requests() -> list[Row]:
    """The request's fault, or the key's."""
    code, auth, model = "upstream_rejected", "upstream_auth_failed", "upstream_model_not_found"
    context, content = "context_length_exceeded", "content_policy_violation"
    prefill, busy = "upstream_rejected", "upstream_overloaded"
    down = up.fails(up.OVERLOADED, retry_after="30")
    cooling: dict[str, Any] = {"retry_after": (29, 60), "breaker": "cooling"}
    final = [row(f"{status}", "4", up.fails(up.REJECTED, status), refused(400, code), refused(400, code)) for status in (400, 413, 422)]
    return [
        *final,
        row("404", "4", up.fails(up.NO_MODEL), mended(model), refused(404, model)),
        row("401", "4", up.fails(up.KEY), mended(auth), refused(502, auth)),
        row("403", "4", up.fails(up.FORBIDDEN), mended(auth), refused(502, auth)),
        row("context length exceeded", "16", up.fails(up.CONTEXT), mended(context), refused(400, context)),
        row("content filter", "16", up.fails(up.FILTERED), refused(400, content), refused(400, content)),
        row(
            "content filter in the band, before output", "16", up.in_band(0, up.FILTERED),
            refused(400, content), refused(400, content),
        ),
        row("content filter as the answer's end", "16", up.filtered_at_the_end, *FILTERED, dialects=STREAMED),
        row(
            "503, and a fallback that takes no prefill", "16", down,
            Expect(503, busy, f"a {busy}, b {prefill}", **cooling), refused(503, busy, **cooling),
            b=(up.rejects_prefill,), begun=True, dialects=STREAMED,
        ),
        row(
            "503, a fallback that takes no prefill, and one that does", "16", down,
            Expect(200, "c:60", f"a {busy}, b {prefill}, c ok", breaker="cooling"), refused(503, busy, **cooling),
            b=(up.rejects_prefill,), c=(up.good,), begun=True, dialects=STREAMED,
        ),
        row(
            "cut after 40, and a fallback that takes no prefill", "16", up.at(40, up.closes),
            (cut(40, CUT), mended(CUT)), (cut(40, CUT), refused(502, CUT, "x1-2")), b=(up.rejects_prefill,), dialects=STREAMED,
        ),
    ]  # fmt: skip


CUT, IDLE, TOTAL, FIRST, HEAD = (
    "upstream_stream_truncated", "upstream_idle_timeout", "upstream_total_timeout", "upstream_first_token_timeout", "upstream_headers_timeout",
)  # fmt: skip
LOST, INVALID, CONNECT = "upstream_connection_lost", "upstream_invalid_response", "upstream_connect_failed"


def connections() -> list[Row]:
    timeout = "upstream_connect_timeout"

    def unreachable(name: str, address: Address) -> Row:
        return row(name, "5", up.good, mended(CONNECT, "x1-2"), refused(502, CONNECT, "x1-3", breaker="(?:open|closed)"), address=address)

    return [
        unreachable("connection refused", "closed"),
        unreachable("name that does not resolve", "nowhere"),
        unreachable("no TLS where it should be", "tls"),
        row(
            "connect timeout", "5", up.good, mended(timeout, elapsed=(0.9, 4.0)),
            refused(504, timeout, "x1-3", breaker="(?:open|closed)", elapsed=(0.9, 6.0)),
            address="full", clocks="{connect_s: 1}",
        ),
        row("reset once before headers", "16", (up.resets, up.good), answered("a", LOST), answered("a", LOST), address="own"),
        row("reset before headers", "16", up.resets, mended(LOST, ONCE_MORE), refused(502, LOST, "x3", breaker="open"), address="own"),
        row("closed before headers", "16", up.closes, mended(LOST, ONCE_MORE), refused(502, LOST, "x3", breaker="open"), address="own"),
    ]  # fmt: skip


def stall(signs: str, fault: up.Fault, dialects: tuple[str, ...] = STREAMED) -> Row:
    late = {"elapsed": (0.9, 4.0)}
    name = f"stall after 20 tokens, {signs}"
    seen = cut(20, IDLE, **late)
    return row(name, "5", up.at(20, fault), seen, seen, clocks=SHORT, dialects=dialects, modes=("stream",))


def clocks() -> list[Row]:
    late, later = {"elapsed": (0.9, 4.0)}, {"elapsed": (1.9, 5.0)}
    return [
        row("silence after accept", "5, 16", up.silent, mended(HEAD, **late), refused(504, HEAD, **late), clocks=SHORT),
        row(
            "headers, and no first token", "5", up.first_token_after(20), (mended(FIRST, **late), mended(IDLE, **late)),
            (refused(504, FIRST, **late), refused(504, IDLE, **late)), clocks="{first_token_s: 1, idle_s: 1.5, total_s: 8}",
        ),
        row(
            "first token after 20 s, with default clocks", "16", up.first_token_after(20),
            (mended(FIRST, elapsed=(5.0, 15.0)), mended(IDLE, elapsed=(5.0, 15.0))), answered("a", elapsed=(19.5, 26.0)),
        ),
        row(
            "comments and no first token", "5, 16", up.only_comments, (mended(FIRST, **late), mended(TOTAL, **later)),
            (refused(504, FIRST, **late), refused(504, TOTAL, **later)), clocks="{first_token_s: 1, idle_s: 5, total_s: 2}",
        ),
        row(
            "stall before output", "5", up.at(0, up.silent), mended(IDLE, **late), refused(504, IDLE, **late),
            clocks="{first_token_s: 4, idle_s: 1}",
        ),
        row(
            "stall after 20 tokens", "5, 16", up.at(20, up.silent), (cut(20, IDLE, **late), mended(IDLE, **late)),
            (cut(20, IDLE, **late), refused(504, IDLE, **late)), clocks=SHORT,
        ),
        stall("with comments", up.signs_of_life(up.comment)),
        stall("with pings", up.signs_of_life(up.ping), dialects=("messages",)),
        stall("with empty deltas", up.signs_of_life(up.empty_delta)),
        stall("an event byte by byte", up.byte_by_byte),
        row(
            "tokens without end", "5, 11", up.tokens_without_end, (cut(r"\d+", TOTAL, **later), mended(TOTAL, **later)),
            (cut(r"\d+", TOTAL, **later), refused(504, TOTAL, **later)), clocks="{total_s: 2, idle_s: 1.5}",
        ),
    ]  # fmt: skip


def cuts() -> list[Row]:
    def early(name: str, source: str, fault: up.Fault, after: int = 40) -> Row:
        return row(name, source, fault, (cut(after, CUT), mended(CUT)), (cut(after, CUT), refused(502, CUT, "x1-2")))

    return [
        early("clean end after 40 of 60 tokens", "6, 16", up.at(40, up.ends_cleanly)),
        early("connection closed after 40 of 60 tokens", "7, 16", up.at(40, up.closes)),
        early("connection reset after 40 of 60 tokens", "7, 16", up.at(40, up.resets)),
        row("connection closed before output", "7", up.at(0, up.closes), mended(CUT), refused(502, CUT, "x1-2")),
        row("connection reset before output", "7", up.at(0, up.resets), mended(CUT), refused(502, CUT, "x1-2")),
        row("clean end before output", "6", up.at(0, up.ends_cleanly), mended(CUT), refused(502, CUT, "x1-2")),
        row("no [DONE], but a finish reason", "6, 16", up.without_farewell, answered("a"), answered("a")),
        row("reset after the finish reason", "7", up.breaks_off_after_the_end, answered("a"), answered("a")),
        row(
            "no [DONE] and no end, but a finish reason", "6, 16", up.without_farewell_or_end,
            answered("a", elapsed=(0.0, 3.0)), answered("a", elapsed=(0.0, 3.0)),
        ),
    ]  # fmt: skip


def nonsense() -> list[Row]:
    code = "upstream_error"

    def none_at_all(name: str, source: str, fault: up.Fault, unary: str = INVALID, stream: str = INVALID, **more: Any) -> Row:
        return row(name, source, fault, (mended(stream), mended(unary)), (refused(502, stream, "x1-2"), refused(502, unary, "x1-2")), **more)

    redirects = [
        none_at_all(f"redirect {status}", "13", up.no_words(status, location="/v1/elsewhere")) for status in (301, 302, 307, 308)
    ]  # fmt: skip
    sent = {"most_sent": MOST_SENT, "elapsed": (0.0, 20.0)}
    large = {"elapsed": (0.0, 20.0)}
    line = b"x" * (1 << 20)
    return [
        row(
            "malformed event after 20 tokens", "7, 16", up.breaks(20), (cut(20, INVALID), mended(INVALID)), (cut(20, INVALID), refused(502, INVALID)),
        ),
        none_at_all("malformed event before output", "7, 8", up.breaks(0)),
        row(
            "error event after 20 tokens", "7, 16", up.in_band(20, up.SERVER),
            (cut(20, code), mended(code, "x1-2")), (cut(20, code), refused(502, code, "x1-3", breaker="(?:open|closed)")),
        ),
        row(
            "error event before output", "7", up.in_band(0, up.SERVER),
            mended(code, "x1-2"), refused(502, code, "x1-3", breaker="(?:open|closed)"),
        ),
        row(
            "error object where a stream was asked for", "7", up.error_object_for_a_stream,
            mended(code, "x1-2"), refused(502, code, "x1-3", breaker="(?:open|closed)"),
        ),
        none_at_all("HTML with status 200", "8, 16", up.responds(HTML, "text/html")),
        none_at_all("HTML that is called an answer", "8", up.responds(HTML), stream=CUT),
        none_at_all("nothing with status 200", "8", up.responds(b""), stream=CUT),
        none_at_all("status 202", "8", up.responds(b"{}", status=202)),
        none_at_all("compressed, unasked", "8", up.responds(gzip.compress(b"\0" * (1 << 24)), content_encoding="gzip")),
        none_at_all("80 MB declared", "8", up.declares_too_much, heavy=True),
        none_at_all("a head without end", "8", up.sends(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 300_000)),
        none_at_all("no HTTP", "8", up.sends(b"SSH-2.0-OpenSSH_9.9\r\n")),
        row(
            "a line of 100 MB before output", "9, 16", up.floods(0, line, 100), mended(INVALID, **sent), refused(502, INVALID, **sent),
            dialects=STREAMED, modes=("stream",), heavy=True,
        ),
        row(
            "a line of 100 MB after 20 tokens", "9, 16", up.floods(20, line, 100), cut(20, INVALID, **sent), cut(20, INVALID, **sent),
            dialects=STREAMED, modes=("stream",), heavy=True,
        ),
        row(
            "an event of 100 MB in short lines", "9", up.floods(20, (b"data: " + b"x" * 1000 + b"\n") * 1000, 100),
            cut(20, INVALID, **sent), cut(20, INVALID, **sent), dialects=STREAMED, modes=("stream",), heavy=True,
        ),
        row(
            "a body of 70 MB, undeclared", "8", up.floods(0, line, 70), mended(INVALID, **large), refused(502, INVALID, **large),
            dialects=("embeddings",), heavy=True,
        ),
        *redirects,
    ]  # fmt: skip


def oddities() -> list[Row]:
    def by_a(name: str, source: str, fault: up.Fault, dialects: tuple[str, ...] = (*STREAMED, "embeddings"), **more: Any) -> Row:
        return row(name, source, fault, answered("a", **more), answered("a", **more), dialects=dialects)

    absurd = up.with_usage(lambda speech: speech.usage(-5, 1 << 50))
    return [
        by_a("every legal oddity of HTTP and of event streams", "9", up.odd_but_legal, elapsed=(0.0, 6.0)),
        by_a("no usage", "10", up.with_usage(lambda speech: None), usage="estimated"),
        by_a("absurd usage", "10", absurd, usage="estimated"),
    ]


GROUPS: dict[str, list[Row]] = {
    "Servers that fail": servers(),
    "Limits": limits(),
    "Refusals": requests(),
    "Connections": connections(),
    "Silence": clocks(),
    "Answers that are cut": cuts(),
    "Answers that are none": nonsense(),
    "Oddities": oddities(),
}
TABLE: list[Row] = [each for rows in GROUPS.values() for each in rows]
