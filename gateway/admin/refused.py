"""Why a signed token is not believed, apart from what verifies it: that needs a library that is heavy, and few need it."""


class TokenRefused(Exception):
    """Not to be believed. The text is ours and names no part of the token."""


class UnknownKey(TokenRefused):
    """None of the provider's keys that we know has signed it: it may have newer ones."""
