r"""A stand-in for an OpenAI-compatible server, in a process of its own, with faults on demand.

    with Stub(slots=200, seconds=0.05) as stub:
        stub.completions, stub.chat, stub.url      # base_url= of local-completions, of local-chat-completions, the root
        stub.set(next=["429", "drop"], style="sglang")  # any field of `Settings`, while it runs
        stub.stats()["samples"]                    # any field of `Stats`
        stub.received()                            # bodies of the requests so far, with `record=True`
        stub.kill(); stub.start()                  # dies at once; comes back at the same port

Paths: `/v1/completions`, `/v1/chat/completions`, `/v1/models`, `/pooling`, `/classify`. A sample takes a slot for
`seconds`; a request with n samples takes n slots.

Its model writes steps such as `Add 3 and 5.` with a blank line behind each, then `So it is \boxed{7}.` and the end. It
goes on from what it wrote, and a seed decides what it writes (that of child i is `seed + i`). Its tokens are words; of
a prompt of token ids each is a character.

Faults, as `next=[...]` for the next requests or `share={...}` at random:

    400, 401, 429, 500, 503   this status, with words of the server's (429 with Retry-After if `retry_after` is set)
    one                       status 500 in the words of a llama.cpp that is asked for several samples
    slow                      answers after `slow_seconds` more
    truncated, malformed      half of the JSON; text that isn't any
    empty, null, no_text      JSON without choices; `null`; choices without text
    drop                      closes the connection instead of an answer
    die                       the process ends, as with kill -9
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from aiohttp import web


@dataclass
class Settings:
    """How the server behaves.

    Attributes:
        slots: Samples at a time.
        seconds: How long a sample takes.
        style: How a reply says what stopped it: `stop_reason`, `matched_stop`, or not at all.
        usage: Whether replies count tokens.
        cached: Whether a prompt that was read before counts as cached.
        choices: Most choices of a reply; None gives all that are asked for.
        seeded: Whether a request's seed is honoured.
        constant: Whether it writes the same to everyone.
        ends: Chance that the next step is the last.
        next: Faults of the next requests, in order; an empty name is none.
        share: Faults of a share of all requests, by name.
        retry_after: Seconds in the Retry-After of a 429; None leaves it out.
        slow_seconds: What `slow` adds.
        step_token: Token at which `/pooling` reads; None reads at all.
        record: Whether bodies are kept.
    """

    slots: int = 200
    seconds: float = 0.0
    style: Literal["vllm", "sglang", "plain"] = "vllm"
    usage: bool = True
    cached: bool = False
    choices: int | None = None
    seeded: bool = True
    constant: bool = False
    ends: float = 0.3
    next: list[str] = field(default_factory=list)
    share: dict[str, float] = field(default_factory=dict)
    retry_after: float | None = None
    slow_seconds: float = 1.0
    step_token: int | None = None
    record: bool = False


@dataclass
class Stats:
    """What the server has done.

    Attributes:
        requests: Requests, those with a fault included.
        faults: Those with one.
        samples: Samples written.
        most_at_once: Most samples at a time.
        prompt_tokens: Sum of what replies said.
        completion_tokens: The same.
        cached_tokens: The same.
    """

    requests: int = 0
    faults: int = 0
    samples: int = 0
    most_at_once: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class Stub:
    """The server's process, from the tests' side.

    Args:
        settings: Fields of `Settings`.
    """

    def __init__(self, **settings: Any):
        self._settings = settings
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Stub:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the process, at the port that it had before if it had one."""
        command = [sys.executable, __file__, str(self._port), json.dumps(self._settings)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """The root."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def completions(self) -> str:
        """The endpoint of texts."""
        return f"{self.url}/v1/completions"

    @property
    def chat(self) -> str:
        """The endpoint of chats."""
        return f"{self.url}/v1/chat/completions"

    def set(self, **settings: Any) -> None:
        """Changes settings while it runs."""
        self._ask("/stub", settings)

    def stats(self) -> dict[str, Any]:
        """What it has done so far."""
        return dict(self._ask("/stub"))

    def received(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far, with `record=True`."""
        return list(self._ask("/stub/received"))

    def _ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data)) as reply:
            return json.load(reply)


class Server:
    """The server's side."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.stats = Stats()
        self.slots = asyncio.Semaphore(settings.slots)
        self.running = 0
        self.bodies: list[Any] = []
        self.seen: set[str] = set()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answers a request for samples."""
        body = await request.json()
        fault = await self._fault(request, body)
        if isinstance(fault, web.StreamResponse):
            return fault
        chat = "messages" in body
        prompt = body["messages"] if chat else body["prompt"]
        begun = ""
        if chat and prompt[-1]["role"] == "assistant" and body.get("continue_final_message"):
            begun = prompt[-1]["content"]
        text = json.dumps(prompt) if chat else prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
        n = min(body.get("n", 1), self.settings.choices or body.get("n", 1))
        seed = body.get("seed") if self.settings.seeded else None
        samples = [self._sample(text, begun or text, body, None if seed is None else seed + i) for i in range(n)]
        await asyncio.gather(*(self._work() for _ in samples))
        choices = [self._choice(index, chat, *sample) for index, sample in enumerate(samples)]
        reply: dict[str, Any] = {"object": "stub", "model": body["model"], "choices": choices}
        if self.settings.usage:
            reply["usage"] = self._usage(text, sum(sample[3] for sample in samples))
        if fault == "no_text":
            reply["choices"] = [{"index": 0, "finish_reason": "stop"}]
        said = json.dumps(reply)
        said = said[: len(said) // 2] if fault == "truncated" else said
        return web.Response(text=said, content_type="application/json")

    def _usage(self, prompt: str, written: int) -> dict[str, Any]:
        read = len(prompt.split())
        cached = read if self.settings.cached and prompt in self.seen else 0
        if self.settings.cached:
            self.seen.add(prompt)
        self.stats.prompt_tokens += read
        self.stats.cached_tokens += cached
        self.stats.completion_tokens += written
        details = {"prompt_tokens_details": {"cached_tokens": cached}} if self.settings.cached else {}
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}

    async def _fault(self, request: web.Request, body: Any) -> str | web.StreamResponse:
        """The fault that this request shall have; a reply where it needs no sample."""
        self.stats.requests += 1
        if self.settings.record:
            self.bodies.append(body)
        name = self.settings.next.pop(0) if self.settings.next else ""
        for other, share in self.settings.share.items():
            name = name or (other if random.random() < share else "")
        self.stats.faults += bool(name)
        if name == "die":
            os._exit(1)
        if name == "slow":
            await asyncio.sleep(self.settings.slow_seconds)
        if name == "drop":
            assert request.transport is not None
            request.transport.abort()
        if name in ("malformed", "empty", "null"):
            text = {"malformed": '{"choices": [{"text": }', "empty": "{}", "null": "null"}[name]
            return web.Response(text=text, content_type="application/json")
        if name == "one":
            return web.json_response({"error": {"message": "Only one completion choice is allowed"}}, status=500)
        if name.isdigit():
            after = self.settings.retry_after
            headers = {} if after is None or name != "429" else {"Retry-After": f"{after:g}"}
            said = f"stub says {name} to {request.headers.get('Authorization', 'no key')}"
            return web.json_response({"error": {"message": said}}, status=int(name), headers=headers)
        return name

    async def _work(self) -> None:
        async with self.slots:
            self.running += 1
            self.stats.most_at_once = max(self.stats.most_at_once, self.running)
            await asyncio.sleep(self.settings.seconds)
            self.running -= 1
            self.stats.samples += 1

    def _sample(self, prompt: str, begun: str, body: Any, seed: int | None) -> tuple[str, str, str | None, int]:
        """Text, finish reason, the stop string that was met, and tokens written, of one sample."""
        most = body.get("max_tokens", body.get("max_completion_tokens", 16))
        key = "" if self.settings.constant else random.random() if seed is None else f"{prompt}{seed}"
        greedy = body.get("temperature", 1.0) == 0
        text = ""
        for count, token in enumerate(words(begun, random.Random(prompt if greedy else key), self.settings.ends), 1):
            text += token
            if not token:
                return text, "stop", None, count
            met = [(text.find(stop), stop) for stop in body.get("stop") or () if stop in text]
            if met:
                at, stop = min(met)
                return text[:at], "stop", stop, count
            if count == most:
                break
        return text, "length", None, most

    def _choice(self, index: int, chat: bool, text: str, finish: str, stop: str | None, _: int) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        styles: dict[str, dict[str, Any]] = {
            "vllm": {"stop_reason": stop},
            "sglang": {"matched_stop": 2 if stop is None and finish == "stop" else stop},
            "plain": {},
        }
        return {"index": index, "finish_reason": finish, **said, **styles[self.settings.style]}

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Answers a verifier's request: the outputs follow from token and position alone."""
        body = await request.json()
        fault = await self._fault(request, body)
        if isinstance(fault, web.StreamResponse):
            return fault
        path = request.path.rsplit("/", 1)[1]
        await self._work()
        self.stats.prompt_tokens += len(body["input"])
        data = [{"index": 0, **self._outputs(path, body["input"])}]
        return web.json_response({"model": "stub", "data": data, "usage": {"prompt_tokens": len(body["input"])}})

    def _outputs(self, path: str, row: Any) -> dict[str, Any]:
        outputs = [[1 - probability(token, at), probability(token, at)] for at, token in enumerate(row)]
        if path == "classify":
            return {"probs": outputs[-1], "num_classes": 2, "label": "LABEL_1"}
        wanted = self.settings.step_token
        return {"data": [one for one, token in zip(outputs, row, strict=True) if wanted in (None, token)]}

    async def models(self, _: web.Request) -> web.Response:
        """Names the only model."""
        return web.json_response({"data": [{"id": "stub", "max_model_len": 4096}]})

    async def change(self, request: web.Request) -> web.Response:
        """Changes settings, and tells the counts."""
        if request.method == "POST":
            for name, value in (await request.json()).items():
                setattr(self.settings, name, value)
        return web.json_response(asdict(self.stats))

    async def recorded(self, _: web.Request) -> web.Response:
        """The bodies so far."""
        return web.json_response(self.bodies)


def words(begun: str, draws: random.Random, ends: float) -> Iterator[str]:
    """What the model writes after a text, word by word; an empty word is its end."""
    if begun.endswith("}."):
        yield ""
        return
    if re.search(r"and \d+\.$", begun):
        yield "\n\n"
    while draws.random() >= ends:
        yield from ("Add ", f"{draws.randrange(100)} ", "and ", f"{draws.randrange(100)}", ".\n\n")
    yield from ("So ", "it ", "is ", f"\\boxed{{{draws.randrange(1000)}}}.", "")


def probability(token: int, position: int) -> float:
    """The second of the two outputs that a verifier's request gets for a token."""
    return ((token + position) * 37 % 101 + 1) / 103


def main(port: int, settings: Settings) -> None:
    """Serves until it is killed; prints the port."""

    async def serve() -> None:
        server = Server(settings)
        app = web.Application(client_max_size=2**26)
        for path in ("/v1/completions", "/v1/chat/completions"):
            app.router.add_post(path, server.complete)
        for path in ("/pooling", "/classify"):
            app.router.add_post(path, server.read)
        app.router.add_get("/v1/models", server.models)
        app.router.add_route("*", "/stub", server.change)
        app.router.add_get("/stub/received", server.recorded)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, backlog=1024)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main(int(sys.argv[1]), Settings(**json.loads(sys.argv[2])))
