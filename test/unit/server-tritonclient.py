"""Talks to a server by the client of Triton Inference Server, which knows nothing of it: `server-tritonclient.py HOST:PORT`.

The server has the models `echo` (one input `x`, given back as `output`) and `structures` of the fixtures.
"""

import asyncio
import sys

import ml_dtypes
import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(sys.argv[1])

assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready('echo')
assert client.is_model_ready('echo', '1')
assert not client.is_model_ready('other')
assert client.get_server_metadata()['name'] == 'libtorch-attention'
assert 'binary_tensor_data' in client.get_server_metadata()['extensions']
assert client.get_model_metadata('echo')['inputs'][0]['name'] == 'x'
assert client.get_model_metadata('structures')['inputs'][0] == {'name': 'table_a', 'datatype': 'FP32', 'shape': [2, 3]}
assert [each['name'] for each in client.get_model_repository_index()] == ['echo', 'structures']

HALVES = ['FP16', 'BF16']
random = np.random.default_rng(0)
TENSORS = {
    'FP32': random.standard_normal((2, 3)).astype(np.float32),
    'FP64': random.standard_normal((2, 3)),
    'FP16': random.standard_normal((2, 3)).astype(np.float16),
    'BF16': random.standard_normal((2, 3)).astype(ml_dtypes.bfloat16),
    'INT64': np.array([[1, -2], [2**53 - 1, 0]], dtype=np.int64),
    'INT32': np.array([[1, -2, 3]], dtype=np.int32),
    'INT16': np.array([[1, -2, 3]], dtype=np.int16),
    'INT8': np.array([[1, -2, 3]], dtype=np.int8),
    'UINT8': np.array([[1, 2, 255]], dtype=np.uint8),
    'BOOL': np.array([[True, False], [False, True]]),
}


def infer(tensor, datatype, binary_input, binary_output, compression=None):
    given = http.InferInput('x', list(tensor.shape), datatype)
    given.set_data_from_numpy(tensor, binary_data=binary_input)
    wanted = [http.InferRequestedOutput('output', binary_data=binary_output)]
    answer = client.infer(
        'echo', [given], outputs=wanted, request_id='a request', request_compression_algorithm=compression
    )
    response = answer.get_response()
    assert response['id'] == 'a request' and response['model_name'] == 'echo', response
    assert ('data' in response['outputs'][0]) == (not binary_output), response
    return answer.as_numpy('output')


for datatype, tensor in TENSORS.items():
    for binary_input in [True, False]:
        # The client itself has no halves as JSON, either way.
        if datatype in HALVES and not binary_input:
            continue
        for binary_output in [True] if datatype in HALVES else [True, False]:
            for compression in [None, 'gzip', 'deflate']:
                result = infer(tensor, datatype, binary_input, binary_output, compression)
                assert result.dtype == tensor.dtype and np.array_equal(result, tensor), (datatype, result, tensor)

# Without outputs that are asked for by name, the client wants all of them as bytes.
inputs = []
for name in ['table_a', 'table_b_0', 'pair_0', 'pair_1']:
    inputs.append(http.InferInput(name, [2, 3], 'FP32'))
    inputs[-1].set_data_from_numpy(np.ones((2, 3), dtype=np.float32))
answer = client.infer('structures', inputs)
assert np.array_equal(answer.as_numpy('output.sum'), np.full((2, 3), 1.5, dtype=np.float32))

# Several requests at once.
pending = []
for i in range(8):
    given = http.InferInput('x', [1], 'INT64')
    given.set_data_from_numpy(np.array([i]))
    pending.append(client.async_infer('echo', [given]))
assert [each.get_result().as_numpy('output').tolist() for each in pending] == [[i] for i in range(8)]

for model, shape, message in [('other', [1], "received 'other'"), ('echo', [2], 'Expected 8 bytes')]:
    given = http.InferInput('x', [1], 'FP32')
    given.set_data_from_numpy(np.ones(1, dtype=np.float32))
    given.set_shape(shape)
    try:
        client.infer(model, [given])
        raise SystemExit(f'{model} {shape} was not refused')
    except InferenceServerException as error:
        assert message in str(error), error

# The client writes what JSON lacks as Python does.
special = np.array([np.nan, np.inf, -np.inf, 0], dtype=np.float32)
for binary_input in [True, False]:
    for binary_output in [True, False]:
        assert np.array_equal(infer(special, 'FP32', binary_input, binary_output), special, equal_nan=True)


async def talk_asynchronously():
    async with aio.InferenceServerClient(sys.argv[1]) as client:
        assert await client.is_server_live() and await client.is_server_ready() and await client.is_model_ready('echo')
        assert (await client.get_model_metadata('echo'))['inputs'][0]['name'] == 'x'

        async def echo(tensor, datatype, binary):
            given = aio.InferInput('x', list(tensor.shape), datatype)
            given.set_data_from_numpy(tensor, binary_data=binary)
            wanted = [aio.InferRequestedOutput('output', binary_data=binary)]
            return (await client.infer('echo', [given], outputs=wanted)).as_numpy('output')

        for datatype in ['FP32', 'INT64', 'BOOL']:
            for binary in [True, False]:
                assert np.array_equal(await echo(TENSORS[datatype], datatype, binary), TENSORS[datatype])
        results = await asyncio.gather(*[echo(np.array([i]), 'INT64', True) for i in range(32)])
        assert [each.tolist() for each in results] == [[i] for i in range(32)]


asyncio.run(talk_asynchronously())
print('passed')
