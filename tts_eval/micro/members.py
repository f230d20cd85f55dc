"""The models that ship with the project, by name: `pretrained=micromath/base`, `verifier=micromath/prm`."""

from __future__ import annotations

import difflib
from pathlib import Path

from tts_eval.types import TtsEvalError


FAMILY = "micromath"

MEMBERS = {
    f"{FAMILY}/base": "the policy",
    f"{FAMILY}/large": "a policy of 14 times its parameters, trained on the same stream of problems",
    f"{FAMILY}/prm": "process verifier of the base, from Monte-Carlo rollouts",
    f"{FAMILY}/orm": "outcome verifier of the base",
    f"{FAMILY}/revision": "the base, trained to revise its attempts",
    f"{FAMILY}/revision-orm": "outcome verifier of the revision model, which sees earlier attempts",
}
"""Name -> what it is."""

WEIGHTS = Path(__file__).parent / "weights"
"""Where the models are: one folder each, as transformers saves them."""


def resolve(name: str) -> str:
    """The folder of one of our models; any other name is returned as it is.

    Args:
        name: What the user gave as `pretrained=`, `verifier=` and the like.

    Raises:
        TtsEvalError: If the name is spelt like one of ours but is none.
    """
    if not name.startswith(f"{FAMILY}/"):
        return name
    if name not in MEMBERS:
        near = difflib.get_close_matches(name, MEMBERS, n=1, cutoff=0.0)
        raise TtsEvalError(f"no model {name} ships with tts-eval: did you mean {near[0]}? (tts-eval models lists them)")
    return str(WEIGHTS / name.removeprefix(f"{FAMILY}/"))
