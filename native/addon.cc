// The addon's entry point: registers with libtorch and fills `exports`. No logic of its own.
#include <c10/util/Logging.h>
#include <napi.h>

#include "node/awaited_end.h"
#include "node/cancellation_wrap.h"
#include "node/captures.h"
#include "node/decode_weights_function.h"
#include "node/environment.h"
#include "node/errors.h"
#include "node/exported_functions.h"
#include "node/hook_wrap.h"
#include "node/model_wrap.h"
#include "node/nn_functions.h"
#include "node/relevance_functions.h"
#include "node/runtime_functions.h"
#include "node/script_functions.h"
#include "node/script_object_wrap.h"
#include "node/stack_rows_function.h"
#include "node/tensor_wrap.h"
#include "node/values.h"
#include "registration.h"
#include "runtime/executor.h"
#include "runtime/run_allocator.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  // Otherwise only Python's module would have libtorch read TORCH_CPP_LOG_LEVEL.
  c10::initLogging();
  lta::node::guarded(env, [] { lta::registerOperators(); }, "ERR_ADDON_LOAD");
  lta::Executor::instance().makeSequential();
  lta::installRunAllocator();
  env.SetInstanceData(new lta::node::Environment());
  lta::node::openChannel(env);
  lta::node::defineAwaitedEnd(env);
  lta::node::TensorWrap::define(env, exports);
  lta::node::ScriptObjectWrap::define(env, exports);
  lta::node::HookWrap::define(env, exports);
  lta::node::CancellationWrap::define(env, exports);
  lta::node::GradientsWrap::define(env, exports);
  lta::node::ModelWrap::define(env, exports);
  lta::node::defineScriptFunctions(env, exports);
  lta::node::defineExportedFunctions(env, exports);
  lta::node::defineNnFunctions(env, exports);
  lta::node::defineRelevanceFunctions(env, exports);
  lta::node::defineStackRows(env, exports);
  lta::node::defineDecodeWeights(env, exports);
  lta::node::defineRuntimeFunctions(env, exports);
  exports.Set("maximumDepth", Napi::Number::New(env, lta::node::kMaximumDepth));
  return exports;
}

}  // namespace

NODE_API_MODULE(attention, init)
