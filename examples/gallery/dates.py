#!/usr/bin/env python3
"""Dates as people write them: an encoder of two layers and a decoder of one (torch.nn), 4 heads each, scripted. scripts/train_example.py trains and exports
it in eight minutes. The decoder writes the year while it looks at the year."""

import json
import shutil

import torch
from gallery import ROOT, file_for, picture

examples = ROOT / 'examples'
alphabet = json.loads((examples / 'vocabulary.json').read_text())
text, written = 'Friday, 3rd of March 2019', '2019-03-0'
source = torch.tensor([[alphabet['source'].index(character) for character in text]])
target = torch.tensor([[0, *(alphabet['target'].index(character) for character in written)]])

path = file_for('.pt')
shutil.copyfile(examples / 'dates.pt', path)
tokens = {'queries': ['start', *written], 'keys': list(text)}
picture(path, {'source': source, 'target': target}, tokens, 'Dates', layer=3, head=0)
