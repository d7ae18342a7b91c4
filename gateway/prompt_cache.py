"""A provider keeps prompts by `prompt_cache_key` among others: one team's key must not be another's, at a provider whose account they share."""

from hashlib import sha256

import msgspec

from contract.call import Call

FIELD = "prompt_cache_key"
LENGTH = 48  # characters; OpenAI takes 64


def own_prompt_key(call: Call, team: str) -> Call:
    """The call with a key that is its team's own: the same for the same text, and not to be guessed from another team. Costs nothing without one."""
    given = call.fields.get(FIELD)
    if given is None or bytes(given)[:1] != b'"':
        return call
    own = sha256(b"%b\0%b" % (team.encode(), bytes(given))).hexdigest()[:LENGTH]
    fields = {**call.fields, FIELD: msgspec.Raw(b'"%b"' % own.encode())}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields))
