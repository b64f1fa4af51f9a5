#include "node/captures.h"

#include <iterator>

#include "capture/attention_gradient.h"
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

Napi::Object fromAttention(Napi::Env env, const Attention& attention) {
  const auto& site = attention.site;
  auto object = Napi::Object::New(env);
  object.Set("index", Napi::Number::New(env, static_cast<double>(site.index)));
  object.Set("name", site.name);
  object.Set("operator", site.operatorName);
  const auto& shape = site.shape;
  object.Set("shape", toArray(env, {shape.batch, shape.heads, shape.queries, shape.keys}));
  object.Set("heads", toArray(env, attention.heads));
  object.Set("queries", toArray(env, attention.queries));
  if (attention.weights.defined()) {
    object.Set("weights", TensorWrap::wrap(env, attention.weights));
    if (attention.keys.defined()) object.Set("keys", TensorWrap::wrap(env, attention.keys));
  } else {
    object.Set("dtype", nameOf(site.dtype));
    object.Set("device", site.device.str());
  }
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
    {"sameDevice", [](CaptureOptions& into, Napi::Value value,
                      const Napi::Object&) { into.toCpu = !booleanArgument(value, "sameDevice"); }},
    {"sameDtype", [](CaptureOptions& into, Napi::Value value,
                     const Napi::Object&) { into.toFloat = !booleanArgument(value, "sameDtype"); }},
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

// Fails to compile if CaptureOptions gains a member. Each has a reader above except `queryRange`, a form of `queries`,
// and `hooked`, which the engine sets.
[[maybe_unused]] void checkMembers(const CaptureOptions& options) {
  [[maybe_unused]] const auto& [layers, heads, queries, queryRange, averageHeads, topK, toCpu, toFloat, maxBytes,
                                onAttention, mayMiss, sitesOnly, gradients, hooked] = options;
  static_assert(std::size(kOptions) == 14 - 2);
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
  if (capture->options().mayMiss) {
    const auto& missing = capture->missing();
    auto labels = Napi::Array::New(env, missing.size());
    for (uint32_t i = 0; i < missing.size(); ++i) labels.Set(i, missing[i]);
    object.Set("missing", labels);
    object.Set("queries", Napi::Number::New(env, static_cast<double>(capture->lastQueries())));
  }
  if (capture->options().gradients) object.Set("gradients", GradientsWrap::wrap(env, attentions, capture, activity));
  return object;
}

}  // namespace lta::node
