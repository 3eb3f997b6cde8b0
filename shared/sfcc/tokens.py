"""Access tokens: taken early, one refresh at a time, and given up when SFCC no longer takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from shared.errors import BridgeError

EARLY: Final = 0.2
"""A token is renewed when this share of its life is left."""
LEAST_SECONDS: Final = 30.0
"""What a token must still be good for, where a renewal did not work."""


class Clock(Protocol):
    """Business time: expiry is about it."""

    def now(self) -> datetime: ...


@dataclass(slots=True, repr=False)
class Token:
    """One token and its life; `repr` does not show it."""

    value: str
    asked_at: datetime
    expires_in_seconds: float
    accepted: bool = False
    """Whether an API has taken it: only then is a later 401 a matter of time."""

    def left(self, now: datetime) -> float:
        """Seconds of its life that are left; it is counted from before it was asked for."""
        return self.expires_in_seconds - (now - self.asked_at).total_seconds()

    def is_fresh(self, now: datetime) -> bool:
        """Whether it needs no renewal yet."""
        return self.left(now) > self.expires_in_seconds * EARLY


class Tokens:
    """The current token of one grant."""

    def __init__(self, ask: Callable[[], Awaitable[Token]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._token: Token | None = None
        self._failed_at: datetime | None = None
        self._refresh = asyncio.Lock()

    async def current(self) -> Token:
        """A token that is good for a while.

        Whoever comes first asks, the others wait for its answer. When that fails while the old token lives,
        the old one goes on, and the next try is made a little later. Raises what the token service's call raises.
        """
        if self._is_good():
            assert self._token is not None  # it is good
            return self._token
        async with self._refresh:
            if not self._is_good():
                try:
                    self._token = await self._ask()
                    self._failed_at = None
                except BridgeError:
                    if self._token is None or self._token.left(self._clock.now()) < LEAST_SECONDS:
                        raise
                    self._failed_at = self._clock.now()
            assert self._token is not None  # it was good, or was taken just now
            return self._token

    def give_up(self, token: Token) -> bool:
        """SFCC answered 401: take a new one next time. Whether that can help: this one was good once."""
        if self._token is token:
            self._token = None
        return token.accepted

    def _is_good(self) -> bool:
        now = self._clock.now()
        if self._token is None:
            return False
        waiting = self._failed_at is not None and now - self._failed_at < timedelta(seconds=LEAST_SECONDS)
        return self._token.is_fresh(now) or (waiting and self._token.left(now) >= LEAST_SECONDS)
