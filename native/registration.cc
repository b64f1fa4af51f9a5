#include "registration.h"

#include <mutex>
#include <string>

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

#include "capture/probe.h"
#include "exported/expansion.h"
#include "exported/grouped_product.h"
#include "exported/shared_masks.h"
#include "fused/operators.h"
#include "nn/native_module.h"
#include "runtime/error.h"
#include "runtime/fork_threads.h"
#include "runtime/run_scope.h"
#include "script/fusion.h"
#include "script/loop_checks.h"
#include "script/module_boundaries.h"
#include "script/one_type.h"
#include "torch/dispatcher.h"
#include "torch/error_text.h"

namespace lta {
namespace {

// The shared library that contains this code.
const char* ownFile() {
#if !defined(_WIN32)
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&registerOperators), &info) && info.dli_fname) return info.dli_fname;
#endif
  return "a file of unknown name";
}

// The shared library of the copy that registered first, in parentheses; empty if the message does not name it.
std::string firstFile(const std::string& message) {
  const auto file = firstRegistrationSite(message);
  return file.empty() ? file : " (" + file + ")";
}

void registerAll() {
  try {
    // Of all copies in a process only one gets the namespace.
    claimNamespace("lta", ownFile());
    fused::registerFusedOperators();
    exported::registerMaskOperator();
    exported::registerCloneOperator();
    exported::registerGroupedProduct();
    registerProbe();
    registerRunScope();
    nn::registerSkipInit();
  } catch (const c10::Error& error) {
    throw Error(
        "ERR_ADDON_LOAD",
        "another copy of libtorch-attention is loaded in this process already" + firstFile(error.what()) +
            ", and two can't watch the same libtorch. Have everything that depends on it resolve to one copy "
            "(`npm ls libtorch-attention` shows them; `npm dedupe`, or `overrides` in package.json), or use the "
            "other one in a child process",
        error.what());
  }
  registerForkThreads();
  script::registerBoundaries();
  script::registerTypeConversions();
  script::registerLoopChecks();
  script::registerFusion();
}

}  // namespace

void registerOperators() {
  static std::once_flag once;
  std::call_once(once, registerAll);
}

}  // namespace lta
