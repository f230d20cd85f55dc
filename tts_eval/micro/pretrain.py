"""Trains microMATH's policies from nothing: the base and a larger model, on the same problems in the same order.

Muon (Jordan et al. 2024) for the matrices and AdamW for the rest need about half the tokens that AdamW alone does here
(docs/micromath.md). One device or several, through accelerate; on one machine the same seed gives the same weights.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tts_eval.micro.card import write_card
from tts_eval.micro.problems import MicroProblem, generate
from tts_eval.micro.tokenizer import train_tokenizer
from tts_eval.types import TtsEvalError


CONTEXT = 512
"""Longest sequence of the models, in tokens."""

_CHUNK = 1024  # problems that are sorted by length together
_BATCH_TOKENS = 3000
_SAVE_EVERY = 500
_IGNORED = -100  # label of a token that isn't trained on


@dataclass(frozen=True)
class Recipe:
    """Size and training of a policy.

    Attributes:
        steps: Optimizer steps, of about 3,000 tokens each.
        width: Hidden size.
        inner: Size of the feed-forward layers.
        layers: Number of layers.
        heads: Attention heads.
        kv_heads: Heads of keys and values.
        muon_rate: Peak learning rate of the matrices.
        adam_rate: Peak learning rate of embeddings and norms.
    """

    steps: int
    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    muon_rate: float
    adam_rate: float


RECIPES = {
    "base": Recipe(steps=5000, width=64, inner=170, layers=4, heads=4, kv_heads=2, muon_rate=0.02, adam_rate=4e-3),
    "large": Recipe(steps=3000, width=192, inner=512, layers=6, heads=6, kv_heads=6, muon_rate=0.02, adam_rate=2e-3),
}


def micro_tokenizer() -> PreTrainedTokenizerFast:
    """The family's tokenizer: every piece that the training problems are made of."""
    problems = islice(generate("train", "tokenizer"), 4096)
    return train_tokenizer((_prompt(p) + p.solution for p in problems), CONTEXT)


def pretrain(name: str, folder: Path, *, steps: int | None = None, seed: int = 0) -> None:
    """Trains one policy and saves it with its tokenizer; goes on where an interrupted run has stopped.

    Args:
        name: A key of `RECIPES`.
        folder: Where the model is saved; checkpoints are in `checkpoint` below it until it is done.
        steps: Optimizer steps; None takes the recipe's.
        seed: Of weights and data.

    Raises:
        TtsEvalError: If the loss is no number.
    """
    accelerator = Accelerator()
    set_seed(seed)
    progress = Progress(steps or RECIPES[name].steps, seed)
    tokenizer = micro_tokenizer()
    model = LlamaForCausalLM(_config(RECIPES[name], tokenizer))
    model, *optimizers = accelerator.prepare(model, *_optimizers(model, RECIPES[name]))
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    _resume(accelerator, progress, folder / "checkpoint")
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]  # loading makes new ones
    bar = tqdm(total=progress.steps, initial=progress.step, desc=f"micromath/{name}", unit="step", mininterval=5)
    for batch in islice(_batches(tokenizer, seed, progress), progress.steps - progress.step):
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * _schedule(progress)
        loss = _loss(model, batch[accelerator.process_index :: accelerator.num_processes], accelerator.device)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        progress.step += 1
        progress.tokens += sum(len(ids) for ids, _ in batch)
        bar.update()
        if progress.step % 50 == 0:
            _require_number(loss, progress.step)
            bar.set_postfix_str(f"loss {loss.item():.3f}")
        if progress.step % _SAVE_EVERY == 0:
            _save(accelerator, folder / "checkpoint")
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(model)
        trained.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_card(folder, name, trained.num_parameters(), progress.tokens, progress.steps, seed)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)


@dataclass
class Progress:
    """Where a training stands; part of its checkpoints.

    Attributes:
        steps: Optimizer steps of the whole run.
        seed: Its seed.
        step: Optimizer steps done.
        tokens: Tokens read.
    """

    steps: int
    seed: int
    step: int = 0
    tokens: int = 0

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The reverse."""
        self.steps, self.seed, self.step, self.tokens = (state[field.name] for field in fields(self))


def _resume(accelerator: Accelerator, progress: Progress, checkpoint: Path) -> None:
    """Goes on from a checkpoint, if there is one."""
    asked = progress.steps, progress.seed
    accelerator.register_for_checkpointing(progress)
    if checkpoint.is_dir():
        accelerator.load_state(str(checkpoint))
    if (progress.steps, progress.seed) != asked:
        raise TtsEvalError(f"{checkpoint} is of a run with other steps or another seed: delete it, or repeat that run")


def _save(accelerator: Accelerator, checkpoint: Path) -> None:
    """Replaces the checkpoint once the new one is whole."""
    new = checkpoint.with_name("checkpoint.new")
    accelerator.save_state(str(new))
    if accelerator.is_main_process:
        shutil.rmtree(checkpoint, ignore_errors=True)
        new.rename(checkpoint)
    accelerator.wait_for_everyone()


def _prompt(problem: MicroProblem) -> str:
    return problem.problem + "\n"


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _optimizers(model: torch.nn.Module, recipe: Recipe) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    named = dict(model.named_parameters())
    matrices = {name for name, weight in named.items() if weight.ndim == 2 and "embed" not in name}
    muon = torch.optim.Muon([named[name] for name in sorted(matrices)], lr=recipe.muon_rate, weight_decay=0.01)
    others = [named[name] for name in sorted(named.keys() - matrices)]
    return muon, torch.optim.AdamW(others, lr=recipe.adam_rate, betas=(0.9, 0.95), weight_decay=0.0)


def _schedule(progress: Progress) -> float:
    """A short warm-up, then linear decay to nothing."""
    return min(1.0, (progress.step + 1) / 50) * (1 - progress.step / progress.steps)


Sequence = tuple[list[int], int]
"""Token ids, and how many of them are the prompt's."""


def _batches(tokenizer: PreTrainedTokenizerFast, seed: int, progress: Progress) -> Iterator[list[Sequence]]:
    """Batches of sequences of like length, from the one that follows `progress.step` on."""
    done = 0
    for chunk in _chunks(seed):
        sequences = [_sequence(tokenizer, problem) for problem in chunk]
        sequences.sort(key=lambda sequence: len(sequence[0]))
        batches: list[list[Sequence]] = [[]]
        for sequence in sequences:
            if (len(batches[-1]) + 1) * len(sequence[0]) > _BATCH_TOKENS:
                batches.append([])
            batches[-1].append(sequence)
        random.Random(f"{seed} {done}").shuffle(batches)
        yield from batches[max(0, progress.step - done) :]
        done += len(batches)


def _chunks(seed: int) -> Iterator[list[MicroProblem]]:
    problems = generate("train", f"pretrain {seed}")
    while True:
        yield list(islice(problems, _CHUNK))


def _sequence(tokenizer: PreTrainedTokenizerFast, problem: MicroProblem) -> Sequence:
    prompt = tokenizer.encode(_prompt(problem))
    return [*prompt, *tokenizer.encode(problem.solution), tokenizer.eos_token_id], len(prompt)


def _loss(model: torch.nn.Module, batch: list[Sequence], device: torch.device) -> torch.Tensor:
    """Mean cross-entropy over the tokens of the solutions; those of the problems are noise."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([sequence + [0] * (width - len(sequence)) for sequence, _ in batch], device=device)
    labels = torch.full_like(ids, _IGNORED)
    for row, (sequence, prompt) in enumerate(batch):
        labels[row, prompt : len(sequence)] = ids[row, prompt : len(sequence)]
    logits = model(input_ids=ids).logits[:, :-1]  # [rows, width - 1, vocabulary]; padding is on the right
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED)


def _require_number(loss: torch.Tensor, step: int) -> None:
    if not torch.isfinite(loss):
        raise TtsEvalError(f"the loss is {loss.item()} at step {step}: lower the learning rates of the recipe")
