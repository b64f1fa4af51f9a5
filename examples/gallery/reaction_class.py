#!/usr/bin/env python3
"""rxnfp: 12 layers of 4 heads (BERT), fine-tuned to tell the class of a reaction from its first token, which looks at the
atom that reacts. As a TorchScript trace."""

import transformers
from gallery import export, inputs_of, picture, tokens_of_smiles, weights_of

folder = weights_of('rxnfp', 'models/transformers/bert_ft')
model = transformers.BertModel.from_pretrained(folder, return_dict=False).eval()

tokens = tokens_of_smiles('CC(=O)Cl.NCc1ccccc1>>CC(=O)NCc1ccccc1')  # an amine is acylated
inputs = inputs_of(tokens, folder)
picture(export(model, inputs, '.pt'), inputs, tokens, 'rxnfp', layer=10, head=1)
