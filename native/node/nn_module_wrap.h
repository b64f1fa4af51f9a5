#pragma once

#include <napi.h>

#include <memory>

#include "nn/model.h"
#include "node/async.h"

namespace lta::node {

// The native side of the modules of the TypeScript layer's `nn`.
class NnModuleWrap : public Napi::ObjectWrap<NnModuleWrap> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit NnModuleWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NnModuleWrap>(info) {}

 private:
  static Napi::Value create(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value capture(const Napi::CallbackInfo& info);
  Napi::Value modules(const Napi::CallbackInfo& info);
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value load(const Napi::CallbackInfo& info);
  Napi::Value to(const Napi::CallbackInfo& info);
  Napi::Value isTraining(const Napi::CallbackInfo& info);
  void train(const Napi::CallbackInfo& info);
  Napi::Value needsWeights(const Napi::CallbackInfo& info);
  void setNeedWeights(const Napi::CallbackInfo& info);
  void addHook(const Napi::CallbackInfo& info);
  void removeHook(const Napi::CallbackInfo& info);
  Napi::Value settled(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);

  static std::shared_ptr<nn::Model> modelOf(Napi::Value value);  // none for what is no module
  const std::shared_ptr<nn::Model>& model() const;
  TaskOptions taskOf(const Napi::Object& options) const;

  std::shared_ptr<nn::Model> model_;
  std::shared_ptr<Activity> activity_;  // outlives the model
};

}  // namespace lta::node
