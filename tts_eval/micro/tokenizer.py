"""microMATH's tokenizer: words, operators, and numbers below 100 as one token each.

A number in one piece makes a fact such as `38=7*5` something that can be looked up at once, by a policy and by a
verifier; digit by digit a model this small learns little else.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"

_PIECE = r"\\boxed\{|[A-Z][^:]*: |\d\d?|[xy][+=]| ?[A-Za-z]+ ?|[:;,] |[\s\S]"


def train_tokenizer(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Builds a tokenizer whose vocabulary is all pieces of some texts.

    Args:
        texts: Enough problems and solutions that every piece occurs.
        context: Longest sequence that the models read, in tokens.
    """
    found = {piece for text in texts for piece, _ in _split().pre_tokenize_str(text)}
    pieces = sorted(found | {str(number) for number in range(100)})
    vocabulary = {token: index for index, token in enumerate((PAD, END, UNKNOWN, *pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = _split()
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
