#!/usr/bin/env python3
"""AntiBERTy, a language model of antibodies: 8 layers of 8 heads (BERT), a token for each amino acid. One of its heads has found the
bridge between two cysteines, 74 positions apart, that holds the fold together. As a program of torch.export."""

import transformers
from gallery import export, inputs_of, picture, weights_of

folder = weights_of('antiberty', 'trained_models')
model = transformers.BertModel.from_pretrained(folder / 'AntiBERTy_md_smooth').eval()

# The variable domain of a heavy chain: frameworks, and the three loops that bind.
sequence = 'EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCAKVSYLSTASSLDYWGQGTLVTVSS'
tokens = ['[CLS]', *sequence, '[SEP]']
inputs = inputs_of(tokens, folder)
picture(export(model, inputs, '.pt2'), inputs, tokens, 'AntiBERTy', layer=4, head=7, queries='15:33')
