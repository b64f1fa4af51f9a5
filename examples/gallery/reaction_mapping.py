#!/usr/bin/env python3
"""RXNMapper: 12 layers of 8 heads that share their weights (ALBERT), trained on reactions without any labels. One of its heads tells which atom
of the product comes from which atom of the reactants; RXNMapper reads atom maps from it. As a TorchScript trace."""

import transformers
from gallery import export, inputs_of, picture, tokens_of_smiles, weights_of

folder = weights_of('rxnmapper', 'models/transformers/albert_heads_8_uspto_all_1310k')
model = transformers.AlbertModel.from_pretrained(folder, return_dict=False).eval()

tokens = tokens_of_smiles('CC(=O)O.OCC>>CC(=O)OCC')  # acetic acid and ethanol make ethyl acetate
inputs = inputs_of(tokens, folder)
picture(export(model, inputs, '.pt'), inputs, tokens, 'RXNMapper', layer=10, head=5)
