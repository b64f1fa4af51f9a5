"""What Python does with the benchmark's models, driven line by line (bench/peers/serve.mjs says what is spoken).

    python3 bench/peers/peer.py KIND OPTIONS

KIND is "huggingface", "encoder", "file", "loading" or "onnx"; OPTIONS is JSON: threads, and what the kind reads.
"""

import gc
import json
import re
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
warnings.filterwarnings("ignore")


def answer(**message):
    print(json.dumps(message), flush=True)


def ids(torch, batch, tokens):
    return (torch.arange(batch * tokens) * 7919 % 1000).reshape(batch, tokens)


def floats(torch, batch, tokens, width):
    numbers = torch.arange(batch * tokens * width) % 10007
    return torch.sin(numbers.double()).float().reshape(batch, tokens, width)


class HuggingFace:
    """The model behind bert.pt, from the same weights: its own forward with sdpa, and eager with output_attentions."""

    def __init__(self, torch, options):
        import transformers

        self.torch = torch
        self.versions = {"transformers": transformers.__version__}
        self.models = {}

    def load(self, way):
        from make_models import bert

        if way not in self.models:
            self.models[way] = bert("sdpa" if way == "forward" else "eager")
        return self.models[way]

    def prepare(self, way, batch, tokens):
        model, numbers = self.load(way), ids(self.torch, batch, tokens)
        if way == "attentions":
            return lambda: model(input_ids=numbers, output_attentions=True)
        return lambda: model(input_ids=numbers)

    def first(self, result):
        return result.last_hidden_state


class Encoder:
    """nn.TransformerEncoder in evaluation mode, and Python's own way to its weights: attentions told to return them,
    and forward hooks that keep them. Writes its parameters to the file `state` where one is given."""

    versions = {}

    def __init__(self, torch, options):
        self.torch, self.width = torch, options["dModel"]
        torch.manual_seed(1)  # as in make_models.py
        layer = torch.nn.TransformerEncoderLayer(
            options["dModel"], options["nhead"], options["dimFeedforward"], batch_first=True,
            activation=options["activation"],
        )
        self.model = torch.nn.TransformerEncoder(layer, options["layers"], enable_nested_tensor=False).eval()
        if options.get("state"):
            from safetensors.torch import save_file

            save_file(self.model.state_dict(), options["state"])

    def load(self, way):
        return self.model

    def prepare(self, way, batch, tokens):
        numbers = floats(self.torch, batch, tokens, self.width)
        return lambda: self.model(numbers) if way == "forward" else self.weights(numbers)

    def weights(self, numbers):
        seen, handles = [], []
        for module in self.model.modules():
            if isinstance(module, self.torch.nn.MultiheadAttention):
                plain = module.forward

                def forward(*args, plain=plain, **kwargs):
                    return plain(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})

                module.forward = forward
                handles.append((module, module.register_forward_hook(lambda _, __, output: seen.append(output[1]))))
        try:
            output = self.model(numbers)
        finally:
            for module, handle in handles:
                handle.remove()
                del module.forward
        if len(seen) != len(handles) or any(weights is None for weights in seen):
            raise RuntimeError("expected the weights of every layer")
        return output, seen

    def first(self, result):
        return result[0] if isinstance(result, tuple) else result


class File:
    """The very file that the package runs, with torch.jit.load."""

    versions = {}

    def __init__(self, torch, options):
        self.torch, self.options, self.model = torch, options, None

    def load(self, way):
        if self.model is None:
            self.model = self.torch.jit.load(self.options["path"]).eval()
        return self.model

    def prepare(self, way, batch, tokens):
        width = self.options["width"]
        numbers = floats(self.torch, batch, tokens, width) if width else ids(self.torch, batch, tokens)
        model = self.load(way)
        return lambda: model(numbers)

    def first(self, result):
        return result


class Loading:
    """Loads TorchScript, which takes token ids, and runs it once where the option `run` says so: a way is the path of a
    file."""

    versions = {}

    def __init__(self, torch, options):
        self.torch, self.runs = torch, options["run"]

    def load(self, way):
        return self.torch.jit.load(way)

    def prepare(self, way, batch, tokens):
        numbers = ids(self.torch, batch, tokens)
        return lambda: self.load(way)(numbers) if self.runs else self.load(way)


class Onnx:
    """onnxruntime as its own documentation has it fastest: all optimizations, one thread per core, and outputs that stay
    in the memory it made them in (IOBinding). Its threads don't spin between runs: others take their turns there."""

    def __init__(self, torch, options):
        import onnxruntime

        self.torch, self.options, self.runtime, self.sessions = torch, options, onnxruntime, {}
        self.versions = {"onnxruntime": onnxruntime.__version__}

    def start(self, way):
        settings = self.runtime.SessionOptions()
        settings.graph_optimization_level = self.runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        settings.intra_op_num_threads = self.options["threads"]
        settings.inter_op_num_threads = 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return self.runtime.InferenceSession(self.options[way], settings, providers=["CPUExecutionProvider"])

    def load(self, way):
        if way not in self.sessions:
            self.sessions[way] = self.start(way)
        return self.sessions[way]

    def prepare(self, way, batch, tokens):
        if way == "first result":  # the model is loaded anew for each run
            numbers = ids(self.torch, batch, tokens).numpy()
            return lambda: self.start("forward").run(None, {"input_ids": numbers})
        session = self.load(way)
        binding = session.io_binding()
        binding.bind_cpu_input("input_ids", ids(self.torch, batch, tokens).numpy())

        def once():
            for output in session.get_outputs():
                binding.bind_output(output.name)
            session.run_with_iobinding(binding)
            outputs = binding.get_outputs()
            binding.clear_binding_outputs()
            return outputs

        return once

    def first(self, result):
        return self.torch.from_numpy(result[0].numpy())


KINDS = {"huggingface": HuggingFace, "encoder": Encoder, "file": File, "loading": Loading, "onnx": Onnx}


def status(name):
    """A field of this process's status in bytes: Linux only."""
    return int(re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) * 1024


def memory(once, count):
    gc.collect()
    before = status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # then the peak is that since the process began
    begin = time.perf_counter()
    for _ in range(count):
        once()
    milliseconds = (time.perf_counter() - begin) * 1000
    peak = status("VmHWM")
    gc.collect()
    return {"ms": milliseconds, "before": before, "peak": peak, "after": status("VmRSS")}


def perform(peer, task, way, numbers):
    if task == "load":
        peer.load(way)
        return {}
    once = peer.prepare(way, *numbers[:2])
    if task == "output":
        return {"values": peer.first(once()).flatten()[:16].tolist()}
    if task == "memory":
        return memory(once, numbers[2])
    begin = time.perf_counter()
    for _ in range(numbers[2]):
        once()  # what it returns goes before the next begins
    return {"ms": (time.perf_counter() - begin) * 1000}


def main(kind, options):
    try:
        import torch

        torch.set_num_threads(options["threads"])
        peer = KINDS[kind](torch, options)
    except ImportError as error:
        answer(missing=f"{error}; python3 -m pip install {error.name}")
        return
    python = ".".join(str(part) for part in sys.version_info[:3])
    answer(ready={"python": python, "torch": torch.__version__, **peer.versions})
    with torch.no_grad():
        for line in sys.stdin:
            task, way, *numbers = line.rstrip("\n").split("\t")
            try:
                answer(**perform(peer, task, way, [int(number) for number in numbers]))
            except Exception as error:
                answer(error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
