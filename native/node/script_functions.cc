#include "node/script_functions.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "node/arguments.h"
#include "node/async.h"
#include "node/cancellation_wrap.h"
#include "node/dtypes.h"
#include "node/errors.h"
#include "node/model_wrap.h"
#include "node/values.h"
#include "runtime/devices.h"
#include "script/load.h"

namespace lta::node {
namespace {

using Loaded = std::shared_ptr<script::ScriptModule>;

// (path or bytes, { device, dtype, optimize, fuse, untrusted, verify, cancellation }) → Promise<NativeModel>
Napi::Value loadScriptModule(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto options = objectArgument(info[1], "the options of load");
    script::LoadOptions load;
    load.device = parseDevice(stringArgument(options.Get("device"), "device"));
    if (const auto dtype = option(options, "dtype")) load.dtype = dtypeArgument(*dtype).type;
    load.optimize = flag(options, "optimize");
    load.untrusted = flag(options, "untrusted");
    load.verify = flag(options, "verify");
    if (const auto fuse = option(options, "fuse")) load.fuse = booleanArgument(*fuse, "fuse");
    std::function<Loaded()> work;
    if (info[0].IsString()) {
      work = [path = stringArgument(info[0], "source"), load] { return script::loadFile(path, load); };
    } else {
      work = [bytes = std::string(bytesOf(info[0])), load]() mutable {
        return script::loadBytes(std::move(bytes), load);
      };
    }
    return runAsync<Loaded>(
        info.Env(), std::move(work),
        [](Napi::Env env, const Loaded& loaded) -> Napi::Value { return ModelWrap::wrap(env, loaded); },
        {.code = "ERR_MODEL_LOAD", .cancellation = CancellationWrap::of(options.Get("cancellation")), .watched = true});
  });
}

}  // namespace

void defineScriptFunctions(Napi::Env env, Napi::Object exports) {
  exports.Set("loadScriptModule", Napi::Function::New(env, loadScriptModule));
}

}  // namespace lta::node
