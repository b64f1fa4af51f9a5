#include "nn/transformer_decoder.h"

#include "nn/module_call.h"

namespace lta::nn {

TransformerDecoder::TransformerDecoder(const TransformerDecoderLayer& layer, int64_t numLayers,
                                       std::shared_ptr<LayerNorm> norm)
    : LayerStack("TransformerDecoder", layer, numLayers, std::move(norm)) {}

c10::IValue TransformerDecoder::run(const std::vector<at::Tensor>& inputs, const NamedArguments& named) {
  return call("", inputs.at(0), inputs.at(1), named);
}

at::Tensor TransformerDecoder::call(const std::string& name, const at::Tensor& tgt, const at::Tensor& memory,
                                    const NamedArguments& named) {
  return callModule(name, *this, {tgt, memory},
                    [&](const std::vector<c10::IValue>& inputs) -> c10::IValue {
                      return forward(inputs.at(0).toTensor(), inputs.at(1).toTensor(), named);
                    })
      .toTensor();
}

at::Tensor TransformerDecoder::forward(const at::Tensor& tgt, const at::Tensor& memory, const NamedArguments& named) {
  auto arguments = decoderArguments(named, tgt.scalar_type());
  arguments.tgtIsCausal = isCausal(named, "tgtIsCausal", "tgtMask", tgt);
  return normalized(callLayers(tgt, memory, arguments));
}

}  // namespace lta::nn
