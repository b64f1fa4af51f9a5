// Converts options and results of captures; NativeGradients.
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

// Runs that are started inside a hook are urgent: the hook's run is blocked on them.
Executor::Kind kindOf(const Napi::Object& options);

// Options of a capture, as normalised by lib/capture.
CaptureOptions captureOptions(const Napi::Object& options);
// Their names.
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

// → { output, attentions, gradients if requested }
Napi::Object fromCapture(Napi::Env env, const engine::CaptureResult& result, const std::shared_ptr<Activity>& activity);
// { output, tensors }
Napi::Value fromTensorCapture(Napi::Env env, const engine::TensorCaptureResult& result);

}  // namespace lta::node
