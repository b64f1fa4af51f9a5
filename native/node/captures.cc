#include "node/captures.h"

#include "capture/attention_gradient.h"
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

std::vector<int64_t> integers(Napi::Value value) {
  std::vector<int64_t> list;
  const auto array = value.As<Napi::Array>();
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) list.push_back(array.Get(i).As<Napi::Number>().Int64Value());
  return list;
}

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

// Hands attentions to a JavaScript function (see Callback).
std::function<void(Attention)> handOver(Napi::Function function, const CancellationPtr& cancellation) {
  return [callback = std::make_shared<Callback>(function), cancellation](Attention attention) {
    // Shared, since a cancelled run doesn't wait for the event loop to look at it.
    const auto shared = std::make_shared<Attention>(std::move(attention));
    try {
      callback->call(
          [shared](Napi::Env env) {
            const auto object = fromAttention(env, *shared);
            *shared = {};
            return std::vector<napi_value>{object};
          },
          [](Napi::Value) {}, cancellation, Executor::Waiting::For::Room);
    } catch (const Error& error) {
      if (!error.cause()) throw;
      throw Error(error.code(), "onAttention failed").withCause(error.cause());
    }
  };
}

}  // namespace

bool flag(const Napi::Object& options, const char* name) {
  const auto value = options.Get(name);
  return value.IsBoolean() && value.As<Napi::Boolean>().Value();
}

Executor::Kind kindOf(const Napi::Object& options) {
  return flag(options, "insideHook") ? Executor::Kind::Urgent : Executor::Kind::Run;
}

CaptureOptions captureOptions(const Napi::Object& options) {
  CaptureOptions capture;
  if (const auto layers = options.Get("layers"); layers.IsArray()) {
    const auto list = layers.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); ++i) {
      const auto layer = list.Get(i).As<Napi::Object>();
      LayerSelector selector;
      selector.label = layer.Get("label").As<Napi::String>();
      if (const auto position = layer.Get("position"); position.IsNumber()) {
        selector.position = position.As<Napi::Number>().Int64Value();
      } else {
        const auto names = layer.Get("names").As<Napi::Array>();
        for (uint32_t k = 0; k < names.Length(); ++k) selector.names.push_back(names.Get(k).As<Napi::String>());
      }
      capture.layers.push_back(std::move(selector));
    }
  }
  if (const auto heads = options.Get("heads"); heads.IsArray()) capture.heads = integers(heads);
  if (const auto queries = options.Get("queries"); queries.IsArray()) {
    capture.queries = integers(queries);
  } else if (queries.IsObject()) {
    const auto range = queries.As<Napi::Object>();
    capture.queryRange = QueryRange{range.Get("start").As<Napi::Number>().Int64Value(),
                                    range.Get("end").As<Napi::Number>().Int64Value()};
  }
  capture.averageHeads = flag(options, "averageHeads");
  if (const auto count = options.Get("topK"); count.IsNumber()) capture.topK = count.As<Napi::Number>().Int64Value();
  capture.toCpu = !flag(options, "sameDevice");
  capture.toFloat = !flag(options, "sameDtype");
  capture.mayMiss = flag(options, "mayMiss");
  capture.sitesOnly = flag(options, "sitesOnly");
  capture.gradients = flag(options, "gradients");
  if (const auto bytes = options.Get("maxBytes"); bytes.IsNumber()) {
    capture.maxBytes = bytes.As<Napi::Number>().Int64Value();
  }
  if (const auto function = options.Get("onAttention"); function.IsFunction()) {
    capture.onAttention = handOver(function.As<Napi::Function>(), CancellationWrap::of(options.Get("cancellation")));
  }
  return capture;
}

void GradientsWrap::define(Napi::Env env, Napi::Object exports) {
  const auto function = DefineClass(env, "NativeGradients", {InstanceMethod("of", &GradientsWrap::of)});
  environment(env).gradientsClass = Napi::Persistent(function);
  exports.Set("NativeGradients", function);
}

Napi::Object GradientsWrap::wrap(Napi::Env env, const std::vector<Attention>& attentions,
                                 std::shared_ptr<Capture> capture, std::shared_ptr<Activity> activity) {
  auto object = environment(env).gradientsClass.New({});
  auto* gradients = Unwrap(object);
  for (const auto& attention : attentions) gradients->points_.push_back(attention.gradient);
  gradients->capture_ = std::move(capture);
  gradients->activity_ = std::move(activity);
  return object;
}

Napi::Value GradientsWrap::of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    // The points are given up with the graph that they belong to.
    return runAsync<std::vector<at::Tensor>>(
        info.Env(),
        [scalar = TensorWrap::of(info[0]), cancellation = CancellationWrap::of(info[1]), points = std::move(points_),
         capture = std::move(capture_)] { return gradientsOf(scalar, points, cancellation); },
        [](Napi::Env env, const std::vector<at::Tensor>& tensors) -> Napi::Value {
          auto list = Napi::Array::New(env, tensors.size());
          for (uint32_t i = 0; i < tensors.size(); ++i) list.Set(i, TensorWrap::wrap(env, tensors[i]));
          return list;
        },
        {.code = "ERR_MODEL_RUN", .cancellation = CancellationWrap::of(info[1]), .token = activity_->begin()});
  });
}

Napi::Object fromCapture(Napi::Env env, const c10::IValue& output, const std::vector<Attention>& attentions,
                         std::shared_ptr<Capture> capture, const std::shared_ptr<Activity>& activity) {
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
  if (capture->options().gradients)
    object.Set("gradients", GradientsWrap::wrap(env, attentions, std::move(capture), activity));
  return object;
}

}  // namespace lta::node
