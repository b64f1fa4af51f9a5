#include "node/captures.h"

#include <iterator>

#include "capture/attention_gradient.h"
#include "capture/capture.h"
#include "node/arguments.h"
#include "node/async.h"
#include "node/callback.h"
#include "node/cancellation_wrap.h"
#include "node/dtypes.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/tensor_wrap.h"
#include "node/values.h"

namespace lta::node {
namespace {

Napi::Array toArray(Napi::Env env, const std::vector<int64_t>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) array.Set(i, Napi::Number::New(env, static_cast<double>(list[i])));
  return array;
}

Napi::Array toArray(Napi::Env env, const std::vector<std::string>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) array.Set(i, list[i]);
  return array;
}

Napi::Array fromUnseen(Napi::Env env, const std::vector<Unseen>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) {
    auto object = Napi::Object::New(env);
    object.Set("name", list[i].name);
    object.Set("operator", list[i].operatorName);
    object.Set("shape", toArray(env, list[i].shape));
    object.Set("reason", list[i].reason);
    array.Set(i, object);
  }
  return array;
}

Napi::Object fromAttention(Napi::Env env, const Attention& attention) {
  const auto& site = attention.site;
  auto object = Napi::Object::New(env);
  object.Set("index", Napi::Number::New(env, static_cast<double>(site.index)));
  object.Set("name", site.name);
  object.Set("operator", site.operatorName);
  object.Set("path", toArray(env, site.path));
  object.Set("kind", nameOf(site.kind));
  object.Set("shape", toArray(env, site.shape.sizes()));
  object.Set("headsKnown", site.shape.headsKnown);
  object.Set("heads", toArray(env, attention.heads));
  object.Set("queries", toArray(env, attention.queries));
  object.Set("dtype", nameOf(site.dtype));
  object.Set("device", site.device.str());
  if (attention.scale) object.Set("scale", *attention.scale == CodeScale::Linear ? "linear" : "log");
  const auto set = [&](const char* name, const at::Tensor& tensor) {
    if (tensor.defined()) object.Set(name, TensorWrap::wrap(env, tensor));
  };
  set("weights", attention.weights);
  set("keys", attention.keys);
  set("scores", attention.scores);
  set("logSumExp", attention.logSumExp);
  set("received", attention.received);
  set("entropy", attention.entropy);
  return object;
}

// Passes attentions to a JavaScript function (see Callback).
std::function<void(Attention)> deliverTo(Napi::Function function, const CancellationPtr& cancellation) {
  return [callback = std::make_shared<Callback>(function), cancellation](Attention attention) {
    // Shared, since a cancelled run doesn't wait for the event loop to consume it.
    const auto shared = std::make_shared<Attention>(std::move(attention));
    try {
      callback->call(
          [shared](Napi::Env env) {
            const auto object = fromAttention(env, *shared);
            *shared = {};
            return std::vector<napi_value>{object};
          },
          [](Napi::Value) {}, cancellation, Executor::Waiting::Reason::Backpressure);
    } catch (const Error& error) {
      if (!error.cause()) throw;
      throw Error(error.code(), "onAttention failed").withCause(error.cause());
    }
  };
}

}  // namespace

Executor::Kind kindOf(const Napi::Object& options) {
  return flag(options, "insideHook") ? Executor::Kind::Urgent : Executor::Kind::Run;
}

namespace {

LayerSelector layerSelector(Napi::Value value) {
  const auto layer = objectArgument(value, "a layer");
  LayerSelector selector;
  selector.label = stringArgument(layer.Get("label"), "the label of a layer");
  if (const auto position = option(layer, "position")) {
    selector.position = integerArgument(*position, "the position of a layer");
  } else {
    selector.names = stringsArgument(layer.Get("names"), "the names of a layer");
  }
  return selector;
}

// How each option is read; omitted ones keep their defaults.
struct OptionReader {
  const char* name;
  void (*read)(CaptureOptions& into, Napi::Value value, const Napi::Object& options);
};

constexpr OptionReader kOptions[] = {
    {"layers",
     [](CaptureOptions& into, Napi::Value value, const Napi::Object&) {
       const auto list = arrayArgument(value, "layers");
       for (uint32_t i = 0; i < list.Length(); ++i) into.layers.push_back(layerSelector(list.Get(i)));
     }},
    {"heads", [](CaptureOptions& into, Napi::Value value,
                 const Napi::Object&) { into.heads = integersArgument(value, "heads"); }},
    {"queries",
     [](CaptureOptions& into, Napi::Value value, const Napi::Object&) {
       if (value.IsArray()) {
         into.queries = integersArgument(value, "queries");
         return;
       }
       const auto range = objectArgument(value, "queries");
       into.queryRange = QueryRange{integerArgument(range.Get("start"), "the start of queries"),
                                    integerArgument(range.Get("end"), "the end of queries")};
     }},
    {"averageHeads", [](CaptureOptions& into, Napi::Value value,
                        const Napi::Object&) { into.averageHeads = booleanArgument(value, "averageHeads"); }},
    {"topK", [](CaptureOptions& into, Napi::Value value,
                const Napi::Object&) { into.topK = integerArgument(value, "topK", 1); }},
    {"weights", [](CaptureOptions& into, Napi::Value value,
                   const Napi::Object&) { into.weights = booleanArgument(value, "weights"); }},
    {"scores", [](CaptureOptions& into, Napi::Value value,
                  const Napi::Object&) { into.scores = booleanArgument(value, "scores"); }},
    {"logSumExp", [](CaptureOptions& into, Napi::Value value,
                     const Napi::Object&) { into.logSumExp = booleanArgument(value, "logSumExp"); }},
    {"statistics",
     [](CaptureOptions& into, Napi::Value value, const Napi::Object&) {
       const auto list = arrayArgument(value, "statistics");
       for (uint32_t i = 0; i < list.Length(); ++i) {
         const auto which = choiceArgument(list.Get(i), "an element of statistics", {"received", "entropy"});
         (which == 0 ? into.received : into.entropy) = true;
       }
     }},
    {"exact", [](CaptureOptions& into, Napi::Value value,
                 const Napi::Object&) { into.exact = booleanArgument(value, "exact"); }},
    {"sameDevice", [](CaptureOptions& into, Napi::Value value,
                      const Napi::Object&) { into.toCpu = !booleanArgument(value, "sameDevice"); }},
    {"dtype",
     [](CaptureOptions& into, Napi::Value value, const Napi::Object&) {
       static constexpr KeptType kTypes[] = {KeptType::Float, KeptType::Same, KeptType::Half, KeptType::LinearCodes,
                                             KeptType::LogCodes};
       into.type = kTypes[choiceArgument(value, "dtype", {"float32", "same", "float16", "linear", "log"})];
     }},
    {"maxBytes", [](CaptureOptions& into, Napi::Value value,
                    const Napi::Object&) { into.maxBytes = integerArgument(value, "maxBytes", 0); }},
    {"onAttention",
     [](CaptureOptions& into, Napi::Value value, const Napi::Object& options) {
       into.onAttention =
           deliverTo(functionArgument(value, "onAttention"), CancellationWrap::of(options.Get("cancellation")));
     }},
    {"mayMiss", [](CaptureOptions& into, Napi::Value value,
                   const Napi::Object&) { into.mayMiss = booleanArgument(value, "mayMiss"); }},
    {"sitesOnly", [](CaptureOptions& into, Napi::Value value,
                     const Napi::Object&) { into.sitesOnly = booleanArgument(value, "sitesOnly"); }},
    {"gradients", [](CaptureOptions& into, Napi::Value value,
                     const Napi::Object&) { into.gradients = booleanArgument(value, "gradients"); }},
};

// Doesn't compile where CaptureOptions gets another member. Each has its reader above, but for `queryRange`, which
// `queries` may be, `received` and `entropy`, which `statistics` names, and `hooked`, which the engine tells.
[[maybe_unused]] void checkMembers(const CaptureOptions& options) {
  [[maybe_unused]] const auto& [layers, heads, queries, queryRange, averageHeads, topK, weights, scores, logSumExp,
                                received, entropy, exact, toCpu, type, maxBytes, onAttention, mayMiss, sitesOnly,
                                gradients, hooked] = options;
  static_assert(std::size(kOptions) == 20 - 3);
}

}  // namespace

std::vector<std::string> captureOptionNames() {
  std::vector<std::string> names;
  for (const auto& each : kOptions) names.emplace_back(each.name);
  return names;
}

CaptureOptions captureOptions(const Napi::Object& options) {
  CaptureOptions capture;
  for (const auto& each : kOptions) {
    if (const auto value = option(options, each.name)) each.read(capture, *value, options);
  }
  return capture;
}

TensorCaptureOptions tensorCaptureOptions(const Napi::Object& options) {
  TensorCaptureOptions capture;
  auto& selector = capture.selector;
  if (const auto value = option(options, "modules")) {
    const auto names = stringsArgument(*value, "modules");
    selector.modules.emplace(names.begin(), names.end());
  }
  if (const auto value = option(options, "operator")) selector.operatorName = stringArgument(*value, "operator");
  if (const auto value = option(options, "occurrence")) selector.occurrence = integerArgument(*value, "occurrence", 0);
  capture.toCpu = !flag(options, "sameDevice");
  capture.toFloat = !flag(options, "sameDtype");
  if (const auto value = option(options, "maxBytes")) capture.maxBytes = integerArgument(*value, "maxBytes", 0);
  return capture;
}

void GradientsWrap::define(Napi::Env env, Napi::Object exports) {
  defineClass(env, exports, {InstanceMethod("of", &GradientsWrap::of)});
}

Napi::Object GradientsWrap::wrap(Napi::Env env, const std::vector<Attention>& attentions,
                                 std::shared_ptr<Capture> capture, std::shared_ptr<Activity> activity) {
  auto object = make(env);
  auto* gradients = Unwrap(object);
  for (const auto& attention : attentions) gradients->points_.push_back(attention.gradient);
  gradients->capture_ = std::move(capture);
  gradients->activity_ = std::move(activity);
  return object;
}

Napi::Value GradientsWrap::of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto scalar = tensorArgument(info[0], "scalar");
    const auto cancellation = CancellationWrap::of(info[1]);
    // The points are released with the graph that they belong to.
    return runAsync<std::vector<at::Tensor>>(
        info.Env(),
        [scalar, cancellation, points = std::move(points_), capture = std::move(capture_)] {
          return gradientsOf(scalar, points, cancellation);
        },
        [](Napi::Env env, const std::vector<at::Tensor>& tensors) -> Napi::Value {
          auto list = Napi::Array::New(env, tensors.size());
          for (uint32_t i = 0; i < tensors.size(); ++i) list.Set(i, TensorWrap::wrap(env, tensors[i]));
          return list;
        },
        {.code = "ERR_MODEL_RUN", .cancellation = cancellation, .token = activity_->begin()});
  });
}

Napi::Object fromCapture(Napi::Env env, const engine::CaptureResult& result,
                         const std::shared_ptr<Activity>& activity) {
  const auto& [output, attentions, capture] = result;
  auto list = Napi::Array::New(env, attentions.size());
  for (uint32_t i = 0; i < attentions.size(); ++i) list.Set(i, fromAttention(env, attentions[i]));
  auto object = Napi::Object::New(env);
  object.Set("output", fromIValue(env, output));
  object.Set("attentions", list);
  object.Set("unseen", fromUnseen(env, capture->unseen()));
  if (!capture->noAttention().empty()) object.Set("noAttention", capture->noAttention());
  if (capture->options().mayMiss) {
    object.Set("missing", toArray(env, capture->missing()));
    object.Set("queries", Napi::Number::New(env, static_cast<double>(capture->lastQueries())));
  }
  if (capture->options().gradients) object.Set("gradients", GradientsWrap::wrap(env, attentions, capture, activity));
  return object;
}

Napi::Value fromTensorCapture(Napi::Env env, const engine::TensorCaptureResult& result) {
  const auto& tensors = result.tensors;
  auto list = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, operatorName, occurrence, output, tensor] = tensors[i];
    auto entry = Napi::Object::New(env);
    entry.Set("name", name);
    entry.Set("operator", operatorName);
    entry.Set("occurrence", Napi::Number::New(env, static_cast<double>(occurrence)));
    entry.Set("output", Napi::Number::New(env, static_cast<double>(output)));
    entry.Set("tensor", TensorWrap::wrap(env, tensor));
    list.Set(i, entry);
  }
  auto object = Napi::Object::New(env);
  object.Set("output", fromIValue(env, result.output));
  object.Set("tensors", list);
  return object;
}

}  // namespace lta::node
