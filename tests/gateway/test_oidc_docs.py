"""docs/sso.md: its example loads, and its figures are those of the code."""

import re
from pathlib import Path

from gateway.admin import oidc, sessions, tokens
from tests.config.files import loaded

TEXT = (Path(__file__).parents[2] / "docs" / "sso.md").read_text()


def test_the_example_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S)
    settings = loaded(tmp_path, block.encode(), {"TURNOUT_ADMIN_KEY": "sk-admin-0123456789", "OIDC_SECRET": "s"}).settings
    assert settings.admin is not None and settings.admin.oidc is not None


def test_the_figures_are_those_of_the_code() -> None:
    assert (sessions.IDLE_S, sessions.ABSOLUTE_S, oidc.RENEW_S, oidc.CLOCKS.total_s, oidc.VERIFIED_S) == (30 * 60, 8 * 3600, 10, 10, 60)
    assert tokens.MIN_RSA_BITS == 2048 and tokens.SKEW_S == 60
    assert set(tokens.ALGORITHMS) == {f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)} | {"Ed25519"}
