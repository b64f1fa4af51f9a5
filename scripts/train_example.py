#!/usr/bin/env python3
"""Train the checkpoint of examples/: dates as people write them, put into ISO form.

    python3 scripts/train_example.py            # trains, measures, writes into examples/

An encoder and a decoder with cross-attention read a date character by character ("Friday, 3rd of March 2019")
and write it character by character ("2019-03-03"). Everything is seeded. The dates, not the samples, are split:
a held-out date is never seen in training, in any way of writing it.
"""

import argparse
import datetime
import json
import random
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from strip_debug import strip_debug

EXAMPLES = Path(__file__).resolve().parent.parent / 'examples'

FIRST_DATE, LAST_DATE = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
SPLIT_SEED, TRAINING_SEED, HELD_OUT_SEED = 1, 2, 3
HELD_OUT_SHARE = 0.1

MONTHS = [
    'January', 'February', 'March', 'April', 'May', 'June',
    'July', 'August', 'September', 'October', 'November', 'December',
]
WEEKDAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday']

# {weekday}: may be wrong, as people's often are; {year2}: two digits, 00 to 49 are 2000 to 2049, 50 to 99 are 1950 to 1999.
FORMATS = [
    '{day} {month} {year}', '{day} {mon} {year}', '{dd} {month} {year}', '{dd} {mon} {year}',
    '{day}. {month} {year}', '{day}-{mon}-{year}', '{dd}-{mon}-{year}', '{day}/{mon}/{year}',
    '{nth} {month} {year}', '{nth} {mon} {year}', '{nth} of {month} {year}', '{nth} of {month}, {year}',
    'the {nth} of {month} {year}', '{day} of {month} {year}',
    '{month} {day}, {year}', '{mon} {day}, {year}', '{mon}. {day}, {year}', '{month} {day} {year}', '{mon} {day} {year}',
    '{month} {nth}, {year}', '{month} {nth} {year}', '{mon} {nth}, {year}', '{month} the {nth}, {year}',
    '{year} {month} {day}', '{year} {mon} {dd}', '{year}, {month} {day}',
    '{weekday}, {day} {month} {year}', '{weekday}, {month} {day}, {year}', '{weekday}, {nth} of {month} {year}',
    '{weekday} {day} {month} {year}', '{weekday} {nth} {month} {year}', '{wkd}, {dd} {mon} {year}', '{wkd} {day} {mon} {year}',
    '{wkd} {mon} {day} {year}', '{weekday}, {nth} {mon} {year}', '{weekday} the {nth} of {month} {year}',
    '{year}-{mm}-{dd}', '{year}/{mm}/{dd}', '{year}.{mm}.{dd}', '{year}{mm}{dd}',
    '{dd}.{mm}.{year}', '{day}.{m}.{year}',
    '{mm}/{dd}/{year}', '{m}/{day}/{year}',
    "{day} {month} '{year2}", "{day} {mon} {year2}", "{mon} {day}, '{year2}", '{dd}.{mm}.{year2}', '{m}/{day}/{year2}',
]

SOURCE_ALPHABET = "0123456789 ,./-'" + 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' + 'abcdefghijklmnopqrstuvwxyz'
TARGET_ALPHABET = '0123456789-'
PADDING, START = 0, 0
MAX_SOURCE, ANSWER_LENGTH = 48, 10
SOURCE_INDEX = {character: index + 1 for index, character in enumerate(SOURCE_ALPHABET)}
TARGET_INDEX = {character: index + 1 for index, character in enumerate(TARGET_ALPHABET)}


def ordinal(day: int) -> str:
    suffix = 'th' if 11 <= day <= 13 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')
    return f'{day}{suffix}'


def write_date(date: datetime.date, rng: random.Random) -> str:
    """One of the ways in which people write `date`."""
    formats = FORMATS
    if not 1950 <= date.year <= 2049:
        formats = [f for f in FORMATS if 'year2' not in f]
    month = MONTHS[date.month - 1]
    short = 'Sept' if date.month == 9 and rng.random() < 0.5 else month[:3]
    weekday = WEEKDAYS[date.weekday()] if rng.random() < 0.5 else rng.choice(WEEKDAYS)
    text = rng.choice(formats).format(
        day=date.day, dd=f'{date.day:02}', nth=ordinal(date.day), m=date.month, mm=f'{date.month:02}',
        month=month, mon=short, year=date.year, year2=f'{date.year % 100:02}', weekday=weekday, wkd=weekday[:3],
    )
    case = rng.random()
    return text.lower() if case < 0.15 else text.upper() if case < 0.2 else text


def split_dates() -> tuple[list[datetime.date], list[datetime.date]]:
    days = (LAST_DATE - FIRST_DATE).days + 1
    dates = [FIRST_DATE + datetime.timedelta(days=i) for i in range(days)]
    random.Random(SPLIT_SEED).shuffle(dates)
    held_out = int(days * HELD_OUT_SHARE)
    return dates[held_out:], dates[:held_out]


def encode_sources(texts: list[str]) -> Tensor:
    """int64 [len(texts), longest], padded with zeros."""
    out = torch.full((len(texts), max(map(len, texts))), PADDING, dtype=torch.int64)
    for row, text in enumerate(texts):
        out[row, : len(text)] = torch.tensor([SOURCE_INDEX[c] for c in text])
    return out


def encode_targets(texts: list[str]) -> Tensor:
    return torch.tensor([[TARGET_INDEX[c] for c in text] for text in texts])


class DateNormaliser(nn.Module):
    """`forward(source, target)` → logits; `translate(source)` → the answer, greedily.

    source: int64 [B, S], zeros are padding. target: int64 [B, T], what was written so far, beginning with the start
    symbol 0. Logits: [B, T, 1 + len(TARGET_ALPHABET)], position t says what follows target[:, : t + 1].
    """

    def __init__(self, width: int = 64, heads: int = 4, encoder_layers: int = 2, decoder_layers: int = 1):
        super().__init__()
        shape = dict(d_model=width, nhead=heads, dim_feedforward=2 * width, dropout=0.05, batch_first=True, norm_first=True)
        self.source_embedding = nn.Embedding(1 + len(SOURCE_ALPHABET), width)
        self.source_position = nn.Embedding(MAX_SOURCE, width)
        self.target_embedding = nn.Embedding(1 + len(TARGET_ALPHABET), width)
        self.target_position = nn.Embedding(ANSWER_LENGTH, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**shape), encoder_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**shape), decoder_layers, norm=nn.LayerNorm(width))
        self.answer = nn.Linear(width, 1 + len(TARGET_ALPHABET))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def encode(self, source: Tensor) -> Tensor:
        positions = torch.arange(source.size(1), device=source.device)
        embedded = self.source_embedding(source) + self.source_position(positions)
        return self.encoder(embedded, src_key_padding_mask=source == 0)

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        length = target.size(1)
        positions = torch.arange(length, device=target.device)
        embedded = self.target_embedding(target) + self.target_position(positions)
        future = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)
        decoded = self.decoder(embedded, memory, tgt_mask=future, memory_key_padding_mask=source == 0)
        return self.answer(decoded)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source), source)

    @torch.jit.export
    def translate(self, source: Tensor) -> Tensor:
        """int64 [B, S] → int64 [B, 10], the symbols of the answer without the start symbol."""
        memory = self.encode(source)
        target = torch.zeros(source.size(0), 1, dtype=torch.int64, device=source.device)
        for _ in range(10):
            logits = self.decode(target, memory, source)[:, -1]
            target = torch.cat([target, logits.argmax(-1).unsqueeze(1)], 1)
        return target[:, 1:]


def exact_matches(model, samples: list[tuple[str, str]], batch: int = 500) -> float:
    right = 0
    with torch.no_grad():
        for start in range(0, len(samples), batch):
            part = samples[start : start + batch]
            answers = model.translate(encode_sources([text for text, _ in part]))
            right += int((answers == encode_targets([iso for _, iso in part])).all(1).sum())
    return right / len(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=EXAMPLES)
    parser.add_argument('--steps', type=int, default=3300)
    parser.add_argument('--batch', type=int, default=128)
    parser.add_argument('--threads', type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(TRAINING_SEED)
    rng = random.Random(TRAINING_SEED)
    training_dates, held_out_dates = split_dates()

    model = DateNormaliser()
    print(f'{sum(p.numel() for p in model.parameters()):,} parameters')
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=options.steps, pct_start=0.1)
    started = time.time()
    for step in range(1, options.steps + 1):
        dates = rng.choices(training_dates, k=options.batch)
        source = encode_sources([write_date(date, rng) for date in dates])
        answer = encode_targets([date.isoformat() for date in dates])
        target = F.pad(answer[:, :-1], (1, 0), value=START)
        loss = F.cross_entropy(model(source, target).flatten(0, 1), answer.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            print(f'step {step}  loss {loss.item():.4f}  {time.time() - started:.0f} s', flush=True)

    rng = random.Random(HELD_OUT_SEED)
    held_out = [(write_date(date, rng), date.isoformat()) for date in held_out_dates]
    scripted = torch.jit.script(model.eval())
    accuracy = exact_matches(scripted, held_out)
    print(f'{accuracy:.2%} of {len(held_out)} held-out dates exactly right')
    for text, iso in held_out[:2000]:
        answer = scripted.translate(encode_sources([text]))[0]
        written = ''.join(TARGET_ALPHABET[i - 1] for i in answer.tolist() if i)
        if written != iso:
            print(f'  wrong: {text!r} → {written}, not {iso}')

    options.out.mkdir(exist_ok=True)
    scripted.save(str(options.out / 'dates.pt'))
    strip_debug(options.out / 'dates.pt')
    vocabulary = {
        'source': ['<pad>', *SOURCE_ALPHABET], 'target': ['<start>', *TARGET_ALPHABET],
        'maxSourceLength': MAX_SOURCE, 'answerLength': ANSWER_LENGTH,
    }
    (options.out / 'vocabulary.json').write_text(json.dumps(vocabulary, ensure_ascii=False) + '\n')
    samples = ',\n'.join(json.dumps(sample) for sample in held_out[:1000])
    (options.out / 'held-out.json').write_text(f'[\n{samples}\n]\n')


if __name__ == '__main__':
    main()
