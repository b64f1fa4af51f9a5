#include "script/load.h"

#include <torch/csrc/jit/ir/ir.h>

#include <functional>
#include <utility>

#include "archive/byte_source.h"
#include "runtime/error.h"
#include "script/checkpoint.h"
#include "script/fusion.h"
#include "torch/error_text.h"

namespace lta::script {
namespace {

namespace jit = torch::jit;

// Adds the source and, where possible, advice to an error of loading.
Error loadError(const std::string& source, std::exception_ptr exception) {
  const Error cause = describe(std::move(exception), "ERR_MODEL_LOAD");
  const std::string what = cause.what();
  std::string reason = what;
  if (isUnknownOperatorError(what)) {
    reason = what + ". The checkpoint uses an operator that this libtorch doesn't have (a custom operator?)";
  }
  return Error(cause.code(), "Cannot load " + source + ": " + reason,
               cause.nativeStack().empty() ? what : cause.nativeStack());
}

// As in Python, other types stay: indices and masks depend on theirs.
void castFloatingPoint(const jit::Module& module, at::ScalarType dtype) {
  const auto cast = [dtype](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.is_floating_point()) tensor.set_data(tensor.to(dtype));
  };
  for (const auto& parameter : module.parameters()) cast(parameter);
  for (const auto& buffer : module.buffers()) cast(buffer);
  // A frozen checkpoint has its parameters as constants. Zero-dimensional tensors don't affect promoted types and stay
  // as they are.
  const std::function<void(jit::Block&)> castConstants = [&](jit::Block& block) {
    for (auto* node : block.nodes()) {
      for (auto* inner : node->blocks()) castConstants(*inner);
      if (node->kind() != jit::prim::Constant || node->outputs().size() != 1) continue;
      const auto value = jit::toIValue(node->output());
      if (!value || !value->isTensor() || value->toTensor().dim() == 0) continue;
      cast(value->toTensor());
      node->output()->inferTypeFrom(value->toTensor());
    }
  };
  for (const auto& each : module.modules()) {
    for (const auto& method : each.get_methods()) castConstants(*method.graph()->block());
  }
}

template <typename Open>
std::shared_ptr<ScriptModule> loadFrom(const std::string& source, const LoadOptions& options, Open open) {
  if (options.fuse && !hasFusion()) {
    throw Error("ERR_INVALID_ARGUMENT",
                "this build of libtorch-attention can't fuse: its libtorch has no oneDNN Graph; leave `fuse` out");
  }
  try {
    auto module = readCheckpoint(open(), {options.device, options.untrusted, options.verify});
    module.eval();
    if (options.dtype) castFloatingPoint(module, *options.dtype);
    const bool fuse = options.optimize && options.fuse;
    return std::make_shared<ScriptModule>(std::move(module),
                                          ScriptModule::Options{options.optimize, fuse, options.dtype, options.device});
  } catch (...) {
    throw loadError(source, std::current_exception());
  }
}

}  // namespace

std::shared_ptr<ScriptModule> loadFile(const std::string& path, const LoadOptions& options) {
  return loadFrom("'" + path + "'", options, [&] { return archive::openFile(path); });
}

std::shared_ptr<ScriptModule> loadBytes(std::string bytes, const LoadOptions& options) {
  return loadFrom("the given bytes", options, [&] { return archive::fromMemory(std::move(bytes)); });
}

}  // namespace lta::script
