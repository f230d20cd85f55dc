"""JSON requests to the replicas of a server: one connection pool, retries, the least loaded replica, failover.

Everything runs on an event loop in a thread of its own, so that requests go out and answers come in while the caller
computes (docs/servers.md).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector

from tts_eval.types import TtsEvalError


log = logging.getLogger(__name__)

_T = TypeVar("_T")

SEPARATOR = "|"
"""Between the URLs of several replicas; commas separate arguments."""

_SEVERAL = ("n_cmpl", "one completion choice")
"""In llama.cpp's words where it refuses several samples at once, with status 500 as if it had failed."""

_BUSY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
_LONGEST_WAIT = 30.0  # seconds between two tries
_LONGEST_REST = 60.0  # seconds for which a replica that failed is left alone
_LONGEST_WORDS = 300  # characters of a server's own words in an error
_LAST_WAIT = 2.0  # seconds for which the end of the program waits for connections to close


class RefusedError(TtsEvalError):
    """A server refuses a request as it is."""


class _FailedTryError(Exception):
    """A try that may be made again; `after` is how many seconds the server asks to wait."""

    def __init__(self, words: str, after: float = 0.0):
        super().__init__(words)
        self.after = after


@dataclass(slots=True, eq=False)
class _Replica:
    url: str
    proxy: str | None
    load: int = 0  # samples under way
    failures: int = 0  # in a row
    rests_until: float = 0.0


class Replicas:
    """One or several servers that answer alike.

    Args:
        urls: The endpoint of each.
        headers: Sent with every request. Their values are never shown.
        concurrency: Most requests under way at a time, over all replicas.
        timeout: Seconds that a try may take.
        tries: Most tries of a request with each replica.
        deadline: Seconds after which a request isn't tried again.
        verify: Whether certificates are checked, or the file of an authority to check them by.
        key_mend: What to do where a key is refused or missing, for the error.
        limits: Which arguments say how long it is tried, for the error.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        headers: Mapping[str, str],
        concurrency: int = 64,
        timeout: float = 300.0,
        tries: int = 15,
        deadline: float = 1800.0,
        verify: bool | str = True,
        key_mend: str = "set the environment variable OPENAI_API_KEY to its key",
        limits: str = "max_retries=, timeout= and deadline= in --model_args say",
    ):
        self._replicas = [_Replica(url, _proxy_of(url)) for url in urls]
        self._headers = dict(headers)
        self._timeout = min(timeout, deadline)
        self._verify = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
        self._tries = tries
        self._deadline = deadline
        self._key_mend = key_mend
        self._limits = limits
        self._slots = asyncio.Semaphore(concurrency)
        self._homes: dict[Hashable, _Replica] = {}
        self._sessions: list[ClientSession] = []
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="tts-eval-requests", daemon=True).start()
        self._finalizer = weakref.finalize(self, _shut, self._loop, self._sessions)

    def run(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Starts a coroutine on the event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def leave(self, home: Hashable) -> None:
        """Forgets which replica the requests of `home` go to."""
        self._homes.pop(home, None)

    def close(self) -> None:
        """Breaks off what is under way and ends the thread; nothing can be asked afterwards."""
        self._finalizer()

    async def post(self, body: Any, read: Callable[[Any], _T], *, home: Hashable = None, weight: int = 1) -> _T:
        """Asks one of the replicas, as often as it takes.

        Args:
            body: Of the request.
            read: Makes the result of the reply's JSON, or raises ValueError if it can't be one.
            home: Requests of one home go to one replica while it lives and isn't clearly more loaded.
            weight: What the request adds to a replica's load: its samples.

        Raises:
            RefusedError: If the server refuses the request, but for its key.
            TtsEvalError: If it refuses the key, or all tries failed.
        """
        async with self._slots:
            started = time.monotonic()
            for tries in count(1):
                try:
                    return await self._try(body, read, home, weight)
                except _FailedTryError as error:
                    pause, seconds = self._pause(error, tries), time.monotonic() - started
                    if tries >= self._tries * len(self._replicas) or seconds + pause > self._deadline:
                        raise TtsEvalError(
                            f"no answer after {tries} tries in {seconds:.0f} s; the last: {error}. Check that the "
                            f"server is up: what is done is kept, so the same command goes on ({self._limits} how long "
                            "it is tried)"
                        ) from error
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _try(self, body: Any, read: Callable[[Any], _T], home: Hashable, weight: int) -> _T:
        replica = self._choose(home)
        replica.load += weight
        try:
            request = self._session().post(replica.url, json=body, proxy=replica.proxy, allow_redirects=False)
            async with request as response:
                content = await response.read()
            self._judge(replica, response, content)
            result = read(json.loads(content))
        except (ClientError, OSError, asyncio.TimeoutError) as error:
            took = f" within {self._timeout:g} s" if isinstance(error, asyncio.TimeoutError) else f" ({error})"
            raise self._failed(replica, f"no answer{took}") from error
        except (ValueError, RecursionError) as error:
            raise self._failed(replica, f"a reply that can't be read ({error})") from error
        finally:
            replica.load -= weight
        replica.failures, replica.rests_until = 0, 0.0
        return result

    def _session(self) -> ClientSession:
        if not self._sessions:
            connector = TCPConnector(limit=0, ssl=self._verify)  # the slots are the limit
            timeout = ClientTimeout(total=self._timeout)
            self._sessions.append(ClientSession(connector=connector, timeout=timeout, headers=self._headers))
        return self._sessions[0]

    def _choose(self, home: Hashable) -> _Replica:
        """The least loaded of the replicas that don't rest, or the one that was chosen before."""
        now = time.monotonic()
        awake = [replica for replica in self._replicas if replica.rests_until <= now]
        awake = awake or [min(self._replicas, key=lambda replica: replica.rests_until)]
        least = min(awake, key=lambda replica: replica.load)
        before = self._homes.get(home)
        # The prompt is in its cache, which is worth a queue that is somewhat longer.
        if before in awake and before is not None and before.load <= 2 * least.load + 8:
            return before
        if home is not None:
            self._homes[home] = least
        return least

    def _judge(self, replica: _Replica, response: ClientResponse, content: bytes) -> None:
        """Raises what a status other than success means."""
        status = response.status
        if status < HTTPStatus.MULTIPLE_CHOICES:
            return
        words = f"HTTP {status}: {self._words(content)}"
        failed = status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if failed and not any(several in words for several in _SEVERAL):
            raise self._failed(replica, words, _seconds(response.headers.get("Retry-After")))
        refusal = f"{shown(replica.url)} refuses the request, {words}"
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise TtsEvalError(f"{refusal} ({self._key_mend})")
        raise RefusedError(f"{refusal} (check model=, base_url= and the other arguments in --model_args)")

    def _failed(self, replica: _Replica, words: str, after: float = 0.0) -> _FailedTryError:
        """Lets a replica rest, for longer each time, and makes the error of the try."""
        now, words = time.monotonic(), f"{shown(replica.url)}: {self._hidden(words)}"
        if replica.rests_until <= now:  # else others have just found out
            replica.failures += 1
            replica.rests_until = now + (after or min(_LONGEST_REST, 2.0 ** (replica.failures - 1)))
            log.warning("tts-eval: %s; trying again", words)
        return _FailedTryError(words, after)

    def _pause(self, error: _FailedTryError, tries: int) -> float:
        """Seconds until the next try: none if another replica can take it, else exponential, half of it by chance."""
        now = time.monotonic()
        if any(replica.rests_until <= now for replica in self._replicas):
            return 0.0
        longest = min(_LONGEST_WAIT, 0.5 * 2 ** (tries / len(self._replicas)))
        return max(error.after, random.uniform(longest / 2, longest))

    def _words(self, content: bytes) -> str:
        """What a server says of an error, on one line."""
        text = content.decode(errors="replace")
        try:
            said = json.loads(text)
            said = said.get("error", said)
            text = str(said.get("message") or said.get("detail") or text)
        except (ValueError, AttributeError, RecursionError):
            pass
        return self._hidden(" ".join(text.split()))[:_LONGEST_WORDS] or "no words"

    def _hidden(self, words: str) -> str:
        """A text without the keys that we sent, and without a proxy's user and password."""
        words = re.sub(r"//[^/@\s]*@", "//", words)
        for value in self._headers.values():
            secret = value.removeprefix("Bearer ").strip()
            words = words.replace(secret, "***") if secret else words
        return words


def split_urls(text: str, argument: str = "base_url") -> list[str]:
    """Reads the URLs of one or several replicas.

    Args:
        text: What the user gave.
        argument: By what argument.

    Raises:
        TtsEvalError: If one of them isn't the address of an endpoint.
    """
    urls = [url.strip() for url in text.split(SEPARATOR)]
    for url in urls:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise TtsEvalError(
                f"{argument}={shown(url)} is no address of a server: give one such as "
                f"http://localhost:8000/v1/completions, or several with {SEPARATOR} between them"
            )
    return urls


def shown(url: str) -> str:
    """A URL as errors show it: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else url.partition("?")[0]


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL.

    aiohttp's `trust_env` would look that up for every request, and fail where ~/.netrc has a password beside our key.

    Raises:
        TtsEvalError: If it is of a kind that isn't spoken here.
    """
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    if proxy is None or "://" not in proxy:
        return proxy and f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise TtsEvalError(
            f"{parts.scheme.upper()}_PROXY names a {proxy.partition('://')[0]} proxy, and only HTTP ones work here: "
            f"name one, or put {parts.hostname} into NO_PROXY"
        )
    return proxy


def _seconds(retry_after: str | None) -> float:
    """What Retry-After asks for; a date isn't worth the trouble."""
    try:
        return min(_LONGEST_REST, max(0.0, float(retry_after or 0)))
    except ValueError:
        return 0.0


def _shut(loop: asyncio.AbstractEventLoop, sessions: list[ClientSession]) -> None:
    ended = threading.Event()

    async def end() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in sessions:
            await session.close()
        ended.set()
        loop.stop()

    asyncio.run_coroutine_threadsafe(end(), loop)
    try:
        asyncio.get_running_loop()  # in the thread itself there is nothing to wait for
    except RuntimeError:
        ended.wait(_LAST_WAIT)
