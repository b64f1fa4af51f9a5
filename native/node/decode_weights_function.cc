#include "node/decode_weights_function.h"

#include "node/arguments.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"
#include "weights/codes.h"

namespace lta::node {
namespace {

// (codes, table of what they stand for) → NativeTensor
Napi::Value decode(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto codes = tensorArgument(info[0], "codes"), table = tensorArgument(info[1], "table");
    if (codes.scalar_type() != at::kByte) mismatch("a tensor of uint8", "codes", info[0]);
    if (table.scalar_type() != at::kFloat || table.dim() != 1 || table.size(0) != 256 || !table.is_cpu() ||
        !table.is_contiguous()) {
      mismatch("256 float32 values on the CPU", "table", info[1]);
    }
    return TensorWrap::wrap(info.Env(), decodeWeights(codes, table));
  });
}

}  // namespace

void defineDecodeWeights(Napi::Env env, Napi::Object exports) {
  exports.Set("decodeWeights", Napi::Function::New(env, decode));
}

}  // namespace lta::node
