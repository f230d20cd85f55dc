"""Requests to replicas: retries, deadlines, failover, where a problem's requests go, and what is never shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from stub_server import Stub

from tts_eval.replicas import Replicas, shown, split_urls
from tts_eval.types import TtsEvalError


BODY = {"model": "m", "prompt": "x", "max_tokens": 3, "seed": 1}


@pytest.fixture(scope="module")
def stubs() -> Iterator[list[Stub]]:
    with Stub() as first, Stub() as second:
        yield [first, second]


@pytest.fixture
def pair(stubs: list[Stub]) -> list[Stub]:
    """Two servers, as they were when they started."""
    for stub in stubs:
        stub.set(next=[], share={}, retry_after=None, seconds=0.0)
    return stubs


def to(*stubs: Stub, **options: Any) -> Replicas:
    return Replicas([stub.completions for stub in stubs], **({"headers": {}, "tries": 3} | options))


def post(replicas: Replicas, **options: Any) -> Any:
    return replicas.run(replicas.post(BODY, dict, **options)).result(timeout=60)


def test_retries_end_with_what_was_tried(pair: list[Stub]) -> None:
    pair[0].set(next=["500", "500"])
    assert post(to(pair[0]))["choices"]
    pair[0].set(next=["503"] * 3)
    words = rf"no answer after 3 tries in \d+ s; the last: {pair[0].completions}: HTTP 503: stub says"
    with pytest.raises(TtsEvalError, match=f"{words}.*the same command goes on"):
        post(to(pair[0]))


def test_failing_over_is_no_haste_to_give_up(pair: list[Stub]) -> None:
    for stub in pair:
        stub.set(share={"503": 1.0})
    started = time.monotonic()
    with pytest.raises(TtsEvalError, match=r"no answer after 6 tries"):
        post(to(*pair))
    for stub in pair:
        stub.set(share={})
    # Between the three rounds lie half of 1 and 2 seconds at least.
    assert time.monotonic() - started > 1.4


def test_a_deadline_ends_the_tries(pair: list[Stub]) -> None:
    pair[0].set(share={"500": 1.0})
    started = time.monotonic()
    with pytest.raises(TtsEvalError, match=r"no answer after \d+ tries"):
        post(to(pair[0], tries=1000, deadline=1.5))
    assert time.monotonic() - started < 1.5


def test_a_slow_try_is_broken_off_and_made_again(pair: list[Stub]) -> None:
    pair[0].set(next=["slow"], slow_seconds=30.0)
    assert post(to(pair[0], timeout=0.5))["choices"]


def test_retry_after_is_heeded(pair: list[Stub]) -> None:
    pair[0].set(next=["429"], retry_after=1.2)
    started = time.monotonic()
    post(to(pair[0]))
    assert time.monotonic() - started >= 1.2


def test_a_refusal_is_final_and_shows_no_key(pair: list[Stub]) -> None:
    before = pair[0].stats()["requests"]
    pair[0].set(next=["401", "400"])
    replicas = to(pair[0], headers={"Authorization": "Bearer sk-secret"})
    with pytest.raises(TtsEvalError, match=r"HTTP 401: stub says 401 to Bearer \*\*\* .*OPENAI_API_KEY"):
        post(replicas)
    with pytest.raises(TtsEvalError, match="HTTP 400"):
        post(replicas)
    assert pair[0].stats()["requests"] - before == 2


def test_replicas_share_the_load_and_a_dead_one_costs_no_request(pair: list[Stub]) -> None:
    with Stub() as dying:
        replicas = to(*pair, dying)
        before = [stub.stats()["requests"] for stub in pair]

        async def many(count: int) -> list[Any]:
            return await asyncio.gather(*(replicas.post(BODY, dict) for _ in range(count)))

        assert len(replicas.run(many(60)).result()) == 60
        assert dying.stats()["requests"] > 5
        dying.kill()
        assert len(replicas.run(many(60)).result(timeout=60)) == 60
    after = [stub.stats()["requests"] for stub in pair]
    assert all(more - less > 20 for more, less in zip(after, before, strict=True))


def test_a_server_that_comes_back_is_found_again() -> None:
    with Stub() as stub:
        replicas = to(stub, tries=20)
        post(replicas)
        stub.kill()
        waiting = replicas.run(replicas.post(BODY, dict))
        time.sleep(1.0)
        assert not waiting.done()
        stub.start()
        assert waiting.result(timeout=60)["choices"]


def test_requests_of_one_problem_stay_with_their_replica(pair: list[Stub]) -> None:
    before = [stub.stats()["requests"] for stub in pair]
    replicas = to(*pair)
    pair[0].set(seconds=0.5)
    first = replicas.run(replicas.post(BODY, dict, home="a"))
    time.sleep(0.1)
    post(replicas, home="b")
    first.result(timeout=60)
    for _ in range(5):
        post(replicas, home="b")
    assert [stub.stats()["requests"] - less for stub, less in zip(pair, before, strict=True)] == [1, 6]
    replicas.leave("b")
    post(replicas, home="b")
    assert pair[0].stats()["requests"] - before[0] == 2, "where nothing is remembered it goes to the first of the idle"


def test_a_replica_that_is_clearly_more_loaded_is_left(pair: list[Stub]) -> None:
    pair[0].set(seconds=0.5)
    replicas = to(*pair, concurrency=64)
    before = pair[1].stats()["requests"]

    async def many() -> None:
        await asyncio.gather(*(replicas.post(BODY, dict, home="a") for _ in range(30)))

    replicas.run(many()).result(timeout=60)
    assert pair[1].stats()["requests"] > before


def test_most_requests_at_a_time(pair: list[Stub]) -> None:
    with Stub(seconds=0.05) as stub:
        replicas = to(stub, concurrency=3)

        async def many() -> None:
            await asyncio.gather(*(replicas.post(BODY, dict) for _ in range(12)))

        replicas.run(many()).result(timeout=60)
        assert stub.stats()["most_at_once"] == 3


def test_close_breaks_off_what_is_under_way() -> None:
    with Stub(seconds=60.0) as stub:
        replicas = to(stub)
        waiting = replicas.run(replicas.post(BODY, dict))
        time.sleep(0.3)
        started = time.monotonic()
        replicas.close()
        assert waiting.cancelled() and time.monotonic() - started < 2


def test_the_proxy_of_the_environment_is_used_and_its_password_not_shown(
    pair: list[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    far = {"urls": ["http://llm.invalid/v1/completions"], "headers": {}, "tries": 1}
    with monkeypatch.context() as environment:
        environment.setenv("http_proxy", pair[0].url)
        through = Replicas(**far)
        environment.setenv("http_proxy", pair[0].url.removeprefix("http://"))
        bare = Replicas(**far)
        environment.setenv("http_proxy", "socks5://proxy:1080")
        with pytest.raises(TtsEvalError, match=r"HTTP_PROXY names a socks5 proxy.* put llm\.invalid into NO_PROXY"):
            Replicas(**far)
        environment.setenv("no_proxy", "llm.invalid")
        past = Replicas(**far)
    assert post(through)["choices"] and post(bare)["choices"]
    with pytest.raises(TtsEvalError, match="no answer"):
        post(past)
    assert through._hidden("407 from http://user:pass@proxy:80") == "407 from http://proxy:80"


def test_urls() -> None:
    assert split_urls("http://a:1/v1/completions|https://b/v1") == ["http://a:1/v1/completions", "https://b/v1"]
    assert shown("https://me:secret@host:8000/v1/x?key=secret") == "https://host:8000/v1/x"
    for wrong in ("", "localhost:8000", "http://a/v1|b"):
        with pytest.raises(TtsEvalError, match=r"base_url=.* is no address of a server"):
            split_urls(wrong)
