// NativeModel: a model of any kind.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "engine/model.h"
#include "node/async.h"
#include "node/object_wrap.h"

namespace lta::node {

class ModelWrap : public ObjectWrap<ModelWrap> {
 public:
  static constexpr const char* kName = "NativeModel";
  static constexpr napi_type_tag kTag = {0x6c696274'6f726368, 0x6d6f6465'6c000001};
  static Napi::FunctionReference& constructor(Environment& environment) { return environment.modelClass; }

  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<engine::Model> model);
  explicit ModelWrap(const Napi::CallbackInfo& info) : ObjectWrap<ModelWrap>(info) {}

  // Throws ERR_INVALID_ARGUMENT for other values, ERR_DISPOSED for a disposed model.
  static const std::shared_ptr<engine::Model>& of(Napi::Value value, const std::string& what);

 private:
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value runBlocking(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  Napi::Value captureTensors(const Napi::CallbackInfo& info);
  Napi::Value modules(const Napi::CallbackInfo& info);
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value stateDict(const Napi::CallbackInfo& info);
  Napi::Value methods(const Napi::CallbackInfo& info);
  Napi::Value signature(const Napi::CallbackInfo& info);
  Napi::Value to(const Napi::CallbackInfo& info);
  void addHook(const Napi::CallbackInfo& info);
  void removeHook(const Napi::CallbackInfo& info);
  Napi::Value settled(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  const std::shared_ptr<engine::Model>& model() const;

  const char* kind_ = "model";
  std::shared_ptr<engine::Model> model_;
  std::shared_ptr<Activity> activity_;  // outlives the model
  const std::shared_ptr<ShortRuns> shortRuns_ = std::make_shared<ShortRuns>();
  const std::shared_ptr<ShortRuns> shortCaptures_ = std::make_shared<ShortRuns>();
};

}  // namespace lta::node
