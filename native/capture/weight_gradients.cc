#include "capture/weight_gradients.h"

#include <functional>
#include <utility>

#include "runtime/device_copy.h"

namespace lta {
namespace {

using ToRows = std::function<at::Tensor(const at::Tensor& gradient)>;

// `toRows` gives the rows that are kept, [B, H, Q, K].
GradientPoint pointAt(at::Tensor tensor, ToRows toRows, at::ScalarType dtype, at::Tensor keys,
                      const CaptureOptions& options) {
  return {std::move(tensor), [toRows = std::move(toRows), dtype, keys = std::move(keys), average = options.averageHeads,
                              moves = options.toCpu](const at::Tensor& gradient) {
            auto kept = averageAndCast(toRows(gradient), average, dtype);
            if (moves) kept = toCpu(kept);
            return keys.defined() ? kept.gather(-1, keys) : kept;
          }};
}

}  // namespace

GradientPoints gradientPointsOf(const PendingAttention& pending, const Kept& kept, const at::Tensor& keys,
                                const CaptureOptions& options) {
  const auto dtype = gradientTypeOf(pending.site, options);
  if (pending.assembly) {
    GradientPoints points;
    for (const auto& part : pending.assembly->parts()) {
      ToRows toRows = [part, assembly = pending.assembly, shape = pending.site.shape,
                       rows = kept.rows](const at::Tensor& gradient) {
        return pickRows(assembly->place(part, gradient), shape, rows);
      };
      points.push_back(pointAt(part.gradientPoint, std::move(toRows), dtype, keys, options));
    }
    return points;
  }
  ToRows toRows;
  if (pending.call) {
    SdpaArguments call;
    call.query = pending.call->query;
    toRows = [call = std::move(call), value = cloneOf(pending.value), arrange = pending.arrange,
              rows = kept.rows](const at::Tensor& gradient) {
      return weightsGradient(call, value, arrange ? arrange(gradient) : gradient, rows);
    };
  } else {
    toRows = [arrange = pending.arrange, shape = pending.site.shape, rows = kept.rows](const at::Tensor& gradient) {
      return pickRows(arrange(gradient), shape, rows);
    };
  }
  return {pointAt(pending.gradientPoint, std::move(toRows), dtype, keys, options)};
}

GradientPoint gradientPointOfReturned(const at::Tensor& weights, const Attention& attention,
                                      const CaptureOptions& options) {
  ToRows toRows = [shape = attention.site.shape, rows = Rows{attention.heads, attention.queries}](
                      const at::Tensor& gradient) { return pickRows(gradient, shape, rows); };
  return pointAt(weights, std::move(toRows), gradientTypeOf(attention.site, options), attention.keys, options);
}

}  // namespace lta
