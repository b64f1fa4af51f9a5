#pragma once

#include <ATen/core/ivalue.h>
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/options.h"
#include "node/object_wrap.h"
#include "runtime/activity.h"
#include "runtime/executor.h"

namespace lta::node {

// The kind of a run with these options: one that is begun inside a hook is waited for by the run of that hook.
Executor::Kind kindOf(const Napi::Object& options);

// The options of a capture, which the layer above has checked and normalised.
CaptureOptions captureOptions(const Napi::Object& options);
// The names of those options.
std::vector<std::string> captureOptionNames();

// The same of a capture of tensors.
TensorCaptureOptions tensorCaptureOptions(const Napi::Object& options);

// What a capture with gradients keeps until its scalar is known: of(scalar) → Promise of one tensor an attention.
class GradientsWrap : public ObjectWrap<GradientsWrap> {
 public:
  static constexpr const char* kName = "NativeGradients";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x67726164'73000001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.gradientsClass; }

  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, const std::vector<Attention>& attentions, std::shared_ptr<Capture> capture,
                           std::shared_ptr<Activity> activity);
  explicit GradientsWrap(const Napi::CallbackInfo& info) : ObjectWrap<GradientsWrap>(info) {}

 private:
  Napi::Value of(const Napi::CallbackInfo& info);

  std::vector<GradientPoints> points_;
  std::shared_ptr<Capture> capture_;
  std::shared_ptr<Activity> activity_;
};

// What a capture gave: { output, attentions, gradients where they were asked for }.
Napi::Object fromCapture(Napi::Env env, const engine::CaptureResult& result, const std::shared_ptr<Activity>& activity);
// { output, tensors }
Napi::Value fromTensorCapture(Napi::Env env, const engine::TensorCaptureResult& result);

}  // namespace lta::node
