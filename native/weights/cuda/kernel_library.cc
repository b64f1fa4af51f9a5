#include "weights/cuda/kernel_library.h"

#include <ATen/core/Tensor.h>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace lta {
namespace {

// The kernel with its arguments ahead of it, as text: CMake writes it into the build's folder.
constexpr const char* kSource =
#include <weights_kernel_source.inc>
    ;

// Tensor cores take bfloat16 and tf32 from here on.
constexpr int kLeastCapability = 80;

// Of cuda.h and nvrtc.h, whose numbers and signatures are part of their binary interfaces.
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
constexpr int kMaxDynamicSharedBytes = 8;                    // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES

struct Api {
  int (*createProgram)(void** program, const char* source, const char* name, int headers, const char* const* texts,
                       const char* const* names);
  int (*compileProgram)(void* program, int count, const char* const* options);
  int (*destroyProgram)(void** program);
  int (*logSize)(void* program, size_t* size);
  int (*log)(void* program, char* text);
  int (*cubinSize)(void* program, size_t* size);
  int (*cubin)(void* program, char* binary);
  int (*attribute)(int* value, int attribute, int device);
  int (*deviceGet)(int* device, int ordinal);
  int (*currentContext)(void** context);
  int (*loadModule)(void** module, const void* image);
  int (*getFunction)(void** function, void* module, const char* name);
  int (*setAttribute)(void* function, int attribute, int value);
  int (*launch)(void* function, unsigned x, unsigned y, unsigned z, unsigned threadsX, unsigned threadsY,
                unsigned threadsZ, unsigned sharedBytes, void* stream, void** parameters, void** extra);
  std::string missing;  // why there is none of it
};

#if defined(__linux__)
// libtorch's own library that links NVRTC and the driver, found beside its others: through it both are the ones that
// libtorch was built with.
void* openBesideLibtorch() {
  Dl_info info{};
  // Any function of libtorch_cpu.
  if (dladdr(reinterpret_cast<const void*>(&at::_ops::softmax_int::call), &info) == 0) return nullptr;
  const auto folder = std::filesystem::path(info.dli_fname).parent_path();
  return dlopen((folder / "libcaffe2_nvrtc.so").c_str(), RTLD_NOW | RTLD_LOCAL);
}

// NVRTC opens its builtins by name alone, and finds them if they are open already: here, those beside it.
void openBuiltins(const void* ofNvrtc) {
  Dl_info info{};
  if (dladdr(ofNvrtc, &info) == 0) return;
  std::error_code none;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(info.dli_fname).parent_path(), none)) {
    const auto name = entry.path().filename().string();
    const bool isAlternative = name.find(".alt.") != std::string::npos;
    if (name.starts_with("libnvrtc-builtins") && !isAlternative) dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL);
  }
}

template <typename Function>
void find(Api& api, void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr && api.missing.empty()) api.missing = std::string("no ") + name;
}

Api open() {
  Api api{};
  void* const library = openBesideLibtorch();
  if (library == nullptr) {
    const char* const error = dlerror();
    api.missing = error != nullptr ? error : "no libcaffe2_nvrtc beside libtorch";
    return api;
  }
  find(api, library, "nvrtcCreateProgram", api.createProgram);
  find(api, library, "nvrtcCompileProgram", api.compileProgram);
  find(api, library, "nvrtcDestroyProgram", api.destroyProgram);
  find(api, library, "nvrtcGetProgramLogSize", api.logSize);
  find(api, library, "nvrtcGetProgramLog", api.log);
  find(api, library, "nvrtcGetCUBINSize", api.cubinSize);
  find(api, library, "nvrtcGetCUBIN", api.cubin);
  find(api, library, "cuDeviceGetAttribute", api.attribute);
  find(api, library, "cuDeviceGet", api.deviceGet);
  find(api, library, "cuCtxGetCurrent", api.currentContext);
  find(api, library, "cuModuleLoadData", api.loadModule);
  find(api, library, "cuModuleGetFunction", api.getFunction);
  find(api, library, "cuFuncSetAttribute", api.setAttribute);
  find(api, library, "cuLaunchKernel", api.launch);
  openBuiltins(reinterpret_cast<const void*>(api.compileProgram));
  return api;
}
#else
Api open() {
  Api api{};
  api.missing = "the kernel is for Linux";
  return api;
}
#endif

const Api& api() {
  static const Api all = open();
  return all;
}

std::string failed(const char* what, int code) { return std::string(what) + " failed with " + std::to_string(code); }

// A program of NVRTC's, destroyed at the end.
class Program {
 public:
  Program() { code_ = api().createProgram(&program_, kSource, "weights_kernel.cu", 0, nullptr, nullptr); }
  ~Program() {
    if (program_ != nullptr) api().destroyProgram(&program_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The binary, or why there is none.
  std::pair<std::string, std::string> compile(const std::vector<std::string>& options) {
    if (code_ != 0) return {{}, failed("nvrtcCreateProgram", code_)};
    std::vector<const char*> texts;
    for (const auto& option : options) texts.push_back(option.c_str());
    code_ = api().compileProgram(program_, static_cast<int>(texts.size()), texts.data());
    if (code_ != 0) return {{}, failed("nvrtcCompileProgram", code_) + ": " + log()};
    size_t size = 0;
    code_ = api().cubinSize(program_, &size);
    if (code_ != 0) return {{}, failed("nvrtcGetCUBINSize", code_)};
    std::pair<std::string, std::string> result{std::string(size, '\0'), {}};
    code_ = api().cubin(program_, result.first.data());
    if (code_ != 0) result.second = failed("nvrtcGetCUBIN", code_);
    return result;
  }

 private:
  std::string log() const {
    size_t size = 0;
    if (api().logSize(program_, &size) != 0) return {};
    std::string text(size, '\0');
    return api().log(program_, text.data()) == 0 ? text : std::string();
  }

  void* program_ = nullptr;
  int code_ = 0;
};

}  // namespace

CompiledKernel::Result CompiledKernel::compile(const KernelVariant& variant, int device) {
  const auto& cuda = api();
  if (!cuda.missing.empty()) return {nullptr, cuda.missing};
  void* context = nullptr;
  if (const int code = cuda.currentContext(&context); code != 0 || context == nullptr) {
    return {nullptr, "no context of the device is current"};
  }
  int handle = 0;
  int major = 0;
  int minor = 0;
  if (const int code = cuda.deviceGet(&handle, device); code != 0) return {nullptr, failed("cuDeviceGet", code)};
  for (const auto& [attribute, value] : {std::pair{kCapabilityMajor, &major}, {kCapabilityMinor, &minor}}) {
    if (const int code = cuda.attribute(value, attribute, handle); code != 0) {
      return {nullptr, failed("cuDeviceGetAttribute", code)};
    }
  }
  const int capability = 10 * major + minor;
  if (capability < kLeastCapability) return {nullptr, "compute capability " + std::to_string(capability)};

  Program program;
  auto [binary, refusal] =
      program.compile({"--gpu-architecture=sm_" + std::to_string(capability), "--std=c++17",
                       "-DLTA_TYPE=" + std::to_string(variant.type), "-DLTA_EMBED=" + std::to_string(variant.embed)});
  if (!refusal.empty()) return {nullptr, std::move(refusal)};
  // Never unloaded: it serves as long as the process does.
  void* module = nullptr;
  void* function = nullptr;
  if (const int code = cuda.loadModule(&module, binary.data()); code != 0) {
    return {nullptr, failed("cuModuleLoadData", code)};
  }
  if (const int code = cuda.getFunction(&function, module, "attention_weights"); code != 0) {
    return {nullptr, failed("cuModuleGetFunction", code)};
  }
  return {std::unique_ptr<CompiledKernel>(new CompiledKernel(function)), {}};
}

std::string CompiledKernel::run(const Launch& launch, const c10::Stream& stream) {
  const auto& cuda = api();
  const auto sharedBytes = static_cast<int>(launch.sharedBytes);
  if (const int code = cuda.setAttribute(function_, kMaxDynamicSharedBytes, sharedBytes); code != 0) {
    return failed("cuFuncSetAttribute", code);
  }
  auto arguments = launch.arguments;
  void* parameters[] = {&arguments};
  const int code = cuda.launch(function_, static_cast<unsigned>(launch.blocks), 1, 1, kBlockThreads, 1, 1,
                               static_cast<unsigned>(sharedBytes), stream.native_handle(), parameters, nullptr);
  return code == 0 ? std::string() : failed("cuLaunchKernel", code);
}

}  // namespace lta
