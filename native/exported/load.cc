#include "exported/load.h"

#include <utility>

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "archive/limit_exceeded.h"
#include "runtime/error.h"

namespace lta::exported {
namespace {

template <typename Open>
std::shared_ptr<ExportedProgram> loadFrom(const std::string& source, const LoadOptions& options, Open open) {
  // Weights of an inference mode could never record gradients.
  const c10::InferenceMode normal(false);
  const c10::NoGradGuard noGrad;
  try {
    const Package package(open(), options.verify || options.untrusted);
    return std::make_shared<ExportedProgram>(readProgram(package, {options.untrusted}), options.program);
  } catch (const Cancelled&) {
    throw;
  } catch (...) {
    const auto exception = std::current_exception();
    const auto cause = describe(exception, "ERR_MODEL_LOAD");
    const char* code = cause.code();
    try {
      std::rethrow_exception(exception);
    } catch (const archive::LimitExceeded&) {
      if (options.untrusted) code = "ERR_UNTRUSTED";
    } catch (...) {  // its own code says it
    }
    throw Error(code, "Cannot load " + source + ": " + cause.what(), cause.nativeStack());
  }
}

}  // namespace

std::shared_ptr<ExportedProgram> loadFile(const std::string& path, const LoadOptions& options) {
  return loadFrom("'" + path + "'", options, [&] {
    return options.untrusted ? archive::Mapping::copyOfFile(path) : archive::Mapping::ofFile(path);
  });
}

std::shared_ptr<ExportedProgram> loadBytes(std::shared_ptr<archive::Mapping> bytes, const LoadOptions& options) {
  return loadFrom("the given bytes", options, [&] { return std::move(bytes); });
}

}  // namespace lta::exported
