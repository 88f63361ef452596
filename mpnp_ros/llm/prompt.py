"""Conversion of a question to the prompt whose continuation is the answer."""
from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from mpnp_ros.errors import ConfigurationError, QuestionError

MAX_CHARACTERS = 2000
SLOT = '{question}'
PLAIN = f'question: {SLOT}\nanswer:'


@dataclass(frozen=True)
class PromptTemplate:
    """A text around the question that ends where the answer begins.

    text: holds `{question}` once; ends without a space, so that answers start with one (" car") and with
    a token of their own.  Raises ConfigurationError otherwise.
    """

    text: str = PLAIN

    def __post_init__(self) -> None:
        if self.text.count(SLOT) != 1:
            raise ConfigurationError(f'prompt template {self.text!r} must hold {SLOT} exactly once')
        if self.text[-1].isspace() or self.text.endswith(SLOT):
            raise ConfigurationError(f'prompt template {self.text!r} must end in what the answer follows, '
                                     'such as "answer:", without a space behind it')

    def ids(self, tokenizer: PreTrainedTokenizerBase, question: str) -> torch.Tensor:
        """Return the token ids [T] of the prompt, on the CPU.

        Names of special tokens in the question are read as plain text.  Raises QuestionError.
        """
        prompt = self.text.replace(SLOT, clean_question(question))
        ids = tokenizer(prompt, split_special_tokens=True).input_ids
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        return torch.tensor(ids)


def clean_question(question: str) -> str:
    """Return the question on one line without control characters; QuestionError if empty or too long."""
    if len(question) > MAX_CHARACTERS:
        raise QuestionError(f'the question has {len(question)} characters; at most {MAX_CHARACTERS} are read')
    plain = ''.join(' ' if unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') else c for c in question)
    plain = ' '.join(plain.split())
    if not plain:
        raise QuestionError('the question is empty; send a text')
    return plain
