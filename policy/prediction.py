"""What is expected of one target for one request."""

import msgspec


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """The part of a prediction that only the target's forecast and the request's limits decide. Seconds from the attempt's start.

    None: nothing is known. `p`: how likely the answer meets the whole SLO; `meets`: likely enough.
    """

    p: float | None
    meets: bool
    ttft_s: float | None
    ttft_p95_s: float | None
    finish_s: float | None
    finish_p95_s: float | None
    tokens_per_s: float | None
    output_tokens: float


class Prediction(Outlook, frozen=True, gc=False):
    """With expected nano-dollars. `cost_nusd`: of this one attempt, when it is whole. `list_nusd`: the same with nothing cached.

    `effective_nusd`: what an answer costs in the end, failures that are paid for among it: by it targets are compared; 0 for an engine of the
    gateway's own, whose other costs are None. `samples`: the weight of its measurements.
    """

    cost_nusd: float | None
    effective_nusd: float | None
    list_nusd: float | None
    samples: float
