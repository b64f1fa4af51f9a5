"""Writes test/fixtures/cli: a small model of text with its tokenizer, for the tests of the command line.

Needs torch and tokenizers. Run from anywhere: python3 scripts/make_cli_fixtures.py
"""

import json
from pathlib import Path
from typing import Optional

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "cli"
WORDS = "[PAD] [UNK] [CLS] [SEP] the cat sat on mat dog ##s ran .".split()


class SelfAttention(nn.Module):
    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(size, 3 * size)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, length, size = x.shape
        query, key, value = self.projections(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        result = functional.scaled_dot_product_attention(query, key, value, mask)
        return result.transpose(1, 2).reshape(batch, length, size)


class TextModel(nn.Module):
    def __init__(self, size: int = 12, heads: int = 3, layers: int = 2):
        super().__init__()
        self.embeddings = nn.Embedding(len(WORDS), size)
        self.layers = nn.ModuleList([SelfAttention(size, heads) for _ in range(layers)])

    def forward(self, input_ids: Tensor, attention_mask: Optional[Tensor] = None) -> Tensor:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        x = self.embeddings(input_ids)
        for layer in self.layers:
            x = x + layer(x, attention_mask[:, None, None, :].to(torch.bool))
        return x


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.jit.save(torch.jit.script(TextModel().eval()), FOLDER / "text.pt")

    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(FOLDER / "tokenizer.json"))

    texts = ["The cats sat on the mat.", "dog ran – quickly"]
    encoded = [tokenizer.encode(text) for text in texts]
    expected = [{"text": text, "ids": e.ids, "tokens": e.tokens} for text, e in zip(texts, encoded)]
    (FOLDER / "encoded.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
