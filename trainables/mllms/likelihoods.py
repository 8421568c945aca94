"""What an MLLM thinks of texts as answers: likelihoods of choices, losses of right answers.

    prompt --once--> keys and values --a copy for each choice--> its tokens --> log-likelihood

Shapes: as in `mllm.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from trainables.encoders.bridge import Entry
from trainables.mllms.prompts import Encoded, Prompts, equal_batches
from trainables.mllms.vision_inputs import VisionInputs


class Likelihoods(VisionInputs):
    """The judging part of an MLLM.

    Attributes:
        tokenizer, prompts: of the MLLM.
    """

    tokenizer: Any
    prompts: Prompts
    _decoder_start: int | None = None
    """With an encoder for the text, what is generated and judged is what its decoder says."""

    @torch.no_grad()
    def likelihoods(
        self,
        prompts: Sequence[str],
        features: Sequence[Sequence[Tensor]],
        choices: Sequence[Sequence[str]],
        batch_size: int,
    ) -> list[list[float]]:
        """Log-likelihood of every choice as the answer: the sum over its tokens, in nats.

        Args:
            prompts, features: as of `answer`.
            choices: for each prompt; texts of one token or more.
            batch_size: choices per forward pass.

        Raises:
            ValueError: as of `answer`, or a choice is no text.
        """
        rows = self._encoded(prompts, features)
        answers = [[self.prompts.of_text(text) for text in texts] for texts in choices]
        for texts, tails in zip(choices, answers, strict=True):
            for text, tail in zip(texts, tails, strict=True):
                if not tail:
                    raise ValueError(f"choice {text!r} has no tokens")
        if "past_key_values" in self._arguments and not self.family.embeds:
            return self._continued(rows, answers, features, batch_size)
        # The class wants an image in each pass.
        asked = [(i, tail) for i, tails in enumerate(answers) for tail in tails]
        of_prompt = [i for i, _ in asked]
        values = iter(
            self._log_likelihoods(
                [rows[i] for i in of_prompt],
                [tail for _, tail in asked],
                [features[i] for i in of_prompt],
                batch_size,
            ).tolist()
        )
        return [[next(values) for _ in texts] for texts in choices]

    def answer_losses(
        self,
        entry: Entry,
        places: Sequence[int],
        prompts: Sequence[str],
        answers: Sequence[str],
    ) -> Tensor:
        """Cross-entropy of right answers, with gradients to what enters the tower.

        Args:
            entry: as of `look`, of B images.
            places: of each prompt, the image that it is about, 0 .. B - 1.
            prompts: each with one `<image>`.
            answers: texts; the end token is added.

        Returns:
            (prompts,): in nats, mean over the tokens of each answer.

        Raises:
            ValueError: the class reads crops, and entries are of whole images.
        """
        if self.family.crops:
            raise ValueError(f"{self.family.title} reads crops, not the whole images of training")
        features = super().look(entry)
        end = self.tokenizer.eos_token_id
        tails = [[*self.prompts.of_text(answer), end] for answer in answers]
        image_features = [[features[place]] for place in places]
        rows = self._encoded(prompts, image_features)
        lengths = torch.tensor([len(tail) for tail in tails], device=self.device)
        return -self._log_likelihoods(rows, tails, image_features, len(prompts)) / lengths

    def _continued(
        self,
        rows: Sequence[Encoded],
        answers: Sequence[Sequence[list[int]]],
        features: Sequence[Sequence[Tensor]],
        batch_size: int,
    ) -> list[list[float]]:
        """Of each row's answers: each row is computed once, and what follows it from there."""
        values: dict[tuple[int, int], float] = {}
        counts = [len(tails) for tails in answers]
        for chosen in _batches_of_choices([row.shape for row in rows], counts, batch_size):
            places = {i: place for place, i in enumerate(dict.fromkeys(i for i, _ in chosen))}
            with self.shown([kept for i in places for kept in features[i]]) as images:
                before = self.model(
                    **self._inputs([rows[i] for i in places]),
                    **images,
                    **self._keeping(1),
                    use_cache=True,
                )
            tails = [answers[i][n] for i, n in chosen]
            row_of_tail = torch.tensor([places[i] for i, _ in chosen])
            sums = self._sums(before, row_of_tail, tails, len(rows[chosen[0][0]].ids))
            values |= dict(zip(chosen, sums.tolist(), strict=True))
        return [[values[i, n] for n in range(count)] for i, count in enumerate(counts)]

    def _sums(
        self, before: Any, row_of_tail: Tensor, tails: Sequence[list[int]], asked: int
    ) -> Tensor:
        """The log-likelihoods of tails, (tails,).

        Args:
            before: what the class gave for the rows in front of them, whose cache is used up.
            row_of_tail: (tails,): for each the number of its row.
            asked: tokens of each row.
        """
        longest = max(map(len, tails))
        # No token looks at what follows it: what shorter tails are filled with does not matter.
        filled = [[*tail, *[0] * (longest - len(tail))] for tail in tails]
        ids = torch.tensor(filled, device=self.device)
        lengths = torch.tensor([len(tail) for tail in tails], device=self.device)
        logits = before.logits[:, -1:][row_of_tail.to(before.logits.device)]
        if longest > 1:
            cache = before.past_key_values
            cache.batch_select_indices(row_of_tail)
            after = self.model(
                input_ids=ids[:, :-1],
                attention_mask=torch.ones(len(ids), asked + longest - 1, device=self.device).long(),
                past_key_values=cache,
                use_cache=True,
            )
            logits = torch.cat((logits, after.logits), 1)
        logs = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        filling = torch.arange(longest, device=self.device) >= lengths[:, None]
        sums: Tensor = logs.masked_fill(filling, 0.0).sum(1)
        return sums

    def _log_likelihoods(
        self,
        rows: Sequence[Encoded],
        tails: Sequence[list[int]],
        features: Sequence[Sequence[Tensor]],
        batch_size: int,
    ) -> Tensor:
        """Of the tail that follows each row: sums over its tokens in nats, (rows,)."""
        values: dict[int, Tensor] = {}
        shapes = [(row.shape, len(tail)) for row, tail in zip(rows, tails, strict=True)]
        for chosen in equal_batches(shapes, batch_size):
            tail = torch.tensor([tails[n] for n in chosen], device=self.device)
            with self.shown([kept for n in chosen for kept in features[n]]) as images:
                logits = self._logits([rows[n] for n in chosen], images, tail)
            logs = logits.float().log_softmax(-1).gather(-1, tail[..., None]).sum((1, 2))
            values |= dict(zip(chosen, logs, strict=True))
        return torch.stack([values[n] for n in range(len(rows))])

    def _encoded(
        self, prompts: Sequence[str], features: Sequence[Sequence[Tensor]]
    ) -> list[Encoded]:
        return [
            self.prompts.encode(prompt, [self.size_of(image) for image in images])
            for prompt, images in zip(prompts, features, strict=True)
        ]

    def _inputs(self, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """Of rows of equal shape: all but what they look at."""
        ids = torch.tensor([row.ids for row in rows], device=self.device)
        inputs: dict[str, Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in (*rows[0].extras, *rows[0].besides):
            values = [(row.extras | row.besides)[name] for row in rows]
            inputs[name] = torch.tensor(values, device=self.device)
        return inputs

    def _logits(self, rows: Sequence[Encoded], images: dict[str, Any], tail: Tensor) -> Tensor:
        """Of words in the place of each token (rows, tokens) of a text behind a prompt."""
        if self._decoder_start is not None:
            before = torch.full_like(tail[:, :1], self._decoder_start)
            decoder_ids = torch.cat((before, tail[:, :-1]), 1)
            logits: Tensor = self.model(
                **self._inputs(rows), **images, decoder_input_ids=decoder_ids
            ).logits
            return logits
        last = tail.shape[1] + 1
        kind = self.family.answer_type
        longer = [row.longer(ids, kind) for row, ids in zip(rows, tail.tolist(), strict=True)]
        logits = self.model(**self._inputs(longer), **images, **self._keeping(last)).logits
        return logits[:, -last:-1]

    @property
    def _arguments(self) -> Sequence[str]:
        """Those of the class's forward pass."""
        return tuple(inspect.signature(self.model.forward).parameters)

    def _keeping(self, last: int) -> dict[str, int]:
        """What makes the class compute so many last logits alone, if it can."""
        return {"logits_to_keep": last} if "logits_to_keep" in self._arguments else {}


def _batches_of_choices(
    shapes: Sequence[tuple[int, ...]], counts: Sequence[int], batch_size: int
) -> Iterator[list[tuple[int, int]]]:
    """Choices (row, number) of rows of equal shapes, row by row, at most `batch_size` at once."""
    choices = [(i, n) for i, count in enumerate(counts) for n in range(count)]
    for places in equal_batches([shapes[i] for i, _ in choices], batch_size):
        yield [choices[place] for place in places]
