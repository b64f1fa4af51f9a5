#!/usr/bin/env python3
"""Say which kernel PyTorch chooses for each call of checks/kernels.mjs, whose KERNELS come as JSON.

    python3 sdpa_choice.py '[{"dtype": "bfloat16", "head": 64, "causal": true}, …]' cuda
"""

import json
import sys

import torch

NAMES = {0: 'math', 1: 'flash', 2: 'efficient', 3: 'cudnn', 4: 'overrideable'}
calls, device = json.loads(sys.argv[1]), sys.argv[2]
chosen = []
for call in calls:
    dtype = getattr(torch, call['dtype'])
    keys = 33 if call.get('causal') else 57
    query = torch.zeros(2, 4, 33, call['head'], dtype=dtype, device=device)
    key = torch.zeros(2, call.get('keyHeads', 4), keys, call['head'], dtype=dtype, device=device)
    mask = None
    if call.get('mask') == 'bool':
        mask = torch.ones(2, 1, 33, keys, dtype=torch.bool, device=device)
    elif call.get('mask'):
        mask = torch.zeros(2, 1, 33, keys, dtype=dtype, device=device)
    try:
        choice = torch._fused_sdp_choice(query, key, key, mask, 0.0, call.get('causal', False), enable_gqa='keyHeads' in call)
        chosen.append(NAMES.get(int(choice), str(choice)))
    except Exception as error:  # a private function: whatever it says is worth a line, not the end
        chosen.append(f'unknown ({type(error).__name__})')
print(json.dumps(chosen))
