"""The training loop: a loss on labelled positions, early stopping on held-out questions (sections 2 and 4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from statistics import fmean

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm import tqdm

from tts_eval.analysis.discrimination import auroc_within
from tts_eval.training.batches import Encoded, collate, endless_batches, labelled, pieces
from tts_eval.training.checkpoints import Checkpoints
from tts_eval.training.config import MAX_GRADIENT_NORM, RunConfig
from tts_eval.training.curve import Evaluation, write_curve
from tts_eval.training.learner import Learner
from tts_eval.training.optimizers import optimizers_of
from tts_eval.types import TtsEvalError


class Trainer:
    """One run on one or several devices.

    Each device reads its share of a batch, in pieces that fit its memory. Every piece's loss is divided by the number
    of labels in the whole batch, so the gradient is that of the batch's mean loss, however it was cut.

    Args:
        config: Decides everything.
        accelerator: The devices.
        learner: Gets trained.
        train: Solutions to train on.
        validation: Solutions of other questions.
    """

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        learner: Learner,
        train: Sequence[Encoded],
        validation: Sequence[Encoded],
    ):
        self._config = config
        self._accelerator = accelerator
        self._learner = learner
        self._train = train
        self._validation = sorted(validation, key=lambda example: len(example.ids))
        self._model, *self._optimizers = accelerator.prepare(learner, *optimizers_of(learner, config))
        epoch = max(1, len(train) // config.batch_size)
        self.steps = min(config.epochs * epoch, config.max_steps or config.epochs * epoch)
        self._eval_every = config.eval_every or max(1, epoch // 10)

    def run(self, checkpoints: Checkpoints, keep: Callable[[Sequence[Evaluation]], None]) -> list[Evaluation]:
        """Trains until nothing is left to do.

        Args:
            checkpoints: Where the run goes on from.
            keep: Is called with the curve so far after each evaluation, on the main device, to keep the weights.

        Returns:
            The curve, that of a resumed run included.

        Raises:
            TtsEvalError: If a loss is no number, the disk refuses, or a checkpoint is another run's.
        """
        config = self._config
        curve = checkpoints.load() if config.resume else []
        step = curve[-1].step if curve else 0
        batches = endless_batches([len(example.ids) for example in self._train], config.batch_size, config.seed)
        batches = itertools.islice(batches, step, None)
        losses: list[float] = []
        with tqdm(total=self.steps, initial=step, desc=f"train {config.kind}", disable=not self._main) as bar:
            while step < self.steps and since_best(curve) < config.patience:
                losses.append(self._step([self._train[i] for i in next(batches)], step))
                step += 1
                bar.update()
                if step % self._eval_every and step < self.steps:
                    continue
                curve.append(self._evaluate(step, fmean(losses)))
                losses.clear()
                bar.set_postfix_str(f"validation loss {curve[-1].validation_loss:.4f}")
                if self._main:
                    keep(curve)
                    write_curve(curve, config.output / "curve.csv")
                checkpoints.save(curve)  # last: a run that resumes here writes none of the above again
        return curve

    @property
    def _main(self) -> bool:
        return bool(self._accelerator.is_main_process)

    def _step(self, batch: Sequence[Encoded], step: int) -> float:
        """Takes one step and returns the batch's loss."""
        config, accelerator = self._config, self._accelerator
        rate = config.learning_rate_at(step, self.steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        labels = labelled(batch)
        parts = list(pieces(self._share(batch), config.batch_tokens))
        total = torch.zeros((), device=accelerator.device)
        self._model.train()
        for part in parts:
            with nullcontext() if part is parts[-1] else accelerator.no_sync(self._model):
                ids, mask, targets, solution = collate(part).to(accelerator.device)
                loss = self._learner.loss(self._model(ids, mask, solution), targets) / labels
                total += loss.detach()
                accelerator.backward(loss * accelerator.num_processes)  # gradients of devices are averaged
        value = float(accelerator.reduce(total))
        self._require_number(value, "training", step)
        accelerator.clip_grad_norm_(self._model.parameters(), MAX_GRADIENT_NORM)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return value

    @torch.no_grad()
    def _evaluate(self, step: int, train_loss: float) -> Evaluation:
        model = self._accelerator.unwrap_model(self._model).eval()
        read: list[tuple[str, float, bool, float]] = []
        for part in pieces(self._share(self._validation), self._config.batch_tokens):
            ids, mask, targets, solution = collate(part).to(self._accelerator.device)
            outputs = model(ids, mask, solution)  # [rows, tokens]
            for example, row, labels in zip(part, outputs, targets, strict=True):
                loss = float(self._learner.loss(row, labels))
                read.append((example.question, float(row[example.ends[-1]]), bool(example.labels[-1] >= 0.5), loss))
        questions, scores, right, losses = zip(*gather_object(read), strict=True)
        loss = math.fsum(losses) / labelled(self._validation)
        self._require_number(loss, "validation", step)
        return Evaluation(step, train_loss, loss, auroc_within(questions, scores, right))

    def _share(self, examples: Sequence[Encoded]) -> Sequence[Encoded]:
        """What this device reads of them."""
        return examples[self._accelerator.process_index :: self._accelerator.num_processes]

    def _require_number(self, loss: float, which: str, step: int) -> None:
        if not math.isfinite(loss):
            rate = self._config.learning_rate_at(step, self.steps)
            kept = f"the best {self._config.NOUN} before that is kept"
            kept = kept if self._config.output.exists() else "nothing was kept yet"
            raise TtsEvalError(
                f"the {which} loss is {loss} at step {step}, with learning rate {rate:.2g}: lower --learning_rate, or "
                f"train in float32 or bfloat16 rather than float16; {kept} in {self._config.output}"
            )


def since_best(curve: Sequence[Evaluation]) -> int:
    """How many evaluations there were since that with the lowest validation loss; 0 if there was none."""
    losses = [row.validation_loss for row in curve]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0
