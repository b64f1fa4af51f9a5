// One test per assumption about libtorch's internals (native/torch), so that a release that breaks one is noticed here.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <pthread.h>

#include <future>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "check.h"
#include "torch/device_guard.h"
#include "torch/dispatch_keys.h"
#include "torch/dispatcher.h"
#include "torch/error_text.h"
#include "torch/held_memory.h"
#include "torch/nested.h"
#include "torch/own_computation.h"
#include "torch/run_local.h"
#include "torch/storage.h"
#include "torch/thread_state.h"
#include "torch/threads.h"

namespace {

using c10::DispatchKey;

struct Number final : lta::RunLocal {
  explicit Number(int given) : value(given) {}
  const int value;
};

// Operators with a kernel under a key.
std::set<std::string> operatorsUnder(DispatchKey key) {
  std::set<std::string> names;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (op && op->hasKernelForDispatchKey(key)) names.insert(c10::toString(name));
  }
  return names;
}

// Absent if there is no such operator. `name` may have an overload: "aten::mul.Tensor".
std::optional<c10::OperatorHandle> find(const std::string& name) {
  const auto dot = name.find('.');
  return c10::Dispatcher::singleton().findSchema(
      {name.substr(0, dot), dot == std::string::npos ? std::string() : name.substr(dot + 1)});
}

std::string schemaOf(const char* name) {
  const auto op = find(name);
  return op ? toString(op->schema()) : std::string();
}

int visited = 0;

}  // namespace

TEST("dispatch keys: the probe's is above that of runs, and both are above all that compute") {
  const c10::DispatchKeySet all(c10::DispatchKeySet::FULL);
  const auto belowProbe = lta::keysBelow(lta::kProbeKey, all), belowRun = lta::keysBelow(lta::kRunKey, all);
  EXPECT(belowProbe.has(lta::kRunKey) && !belowRun.has(lta::kProbeKey) && !belowRun.has(lta::kRunKey));
  for (const auto key :
       {DispatchKey::AutocastCPU, DispatchKey::AutocastCUDA, DispatchKey::AutogradCPU, DispatchKey::AutogradCUDA,
        DispatchKey::AutogradNestedTensor, DispatchKey::ADInplaceOrView, DispatchKey::CPU, DispatchKey::CUDA,
        DispatchKey::NestedTensorCPU, DispatchKey::BackendSelect}) {
    EXPECT(belowRun.has(key));
  }
}

TEST("dispatch keys: libtorch registers no kernel of its own under either") {
  EXPECT(operatorsUnder(lta::kRunKey) == (std::set<std::string>{"aten::normal_", "aten::uniform_"}));
  const auto watched = operatorsUnder(lta::kProbeKey);
  for (const auto* name :
       {"aten::bincount", "aten::max_pool2d", "aten::select.int", "aten::nonzero", "aten::transpose.int"}) {
    EXPECT(!watched.count(name));
  }
}

TEST("dispatch keys: exclusion is scoped") {
  const lta::IncludeDispatchKey included(lta::kRunKey);
  const auto includes = [] { return c10::impl::tls_local_dispatch_key_set().included_.has(lta::kRunKey); };
  const auto excludes = [] { return c10::impl::tls_local_dispatch_key_set().excluded_.has(lta::kProbeKey); };
  EXPECT(includes() && !excludes());
  {
    const lta::OwnComputation own;
    EXPECT(excludes() && !c10::GradMode::is_enabled());
  }
  EXPECT(includes() && !excludes());
}

TEST("operators that the probe has kernels for exist, and write where they did") {
  const auto watched = operatorsUnder(lta::kProbeKey);
  for (const auto* name : {"aten::scaled_dot_product_attention",
                           "aten::_native_multi_head_attention",
                           "aten::_transformer_encoder_layer_fwd",
                           "aten::softmax.int",
                           "aten::_softmax",
                           "aten::_softmax.out",
                           "aten::_safe_softmax",
                           "aten::_masked_softmax",
                           "aten::_nested_tensor_softmax_with_shape",
                           "aten::matmul",
                           "aten::bmm",
                           "aten::mm",
                           "aten::baddbmm",
                           "aten::matmul.out",
                           "aten::bmm.out",
                           "aten::mm.out",
                           "aten::baddbmm.out",
                           "aten::baddbmm_",
                           "aten::einsum",
                           "aten::_to_copy",
                           "aten::clone",
                           "aten::dropout",
                           "aten::mul.Tensor",
                           "aten::mul.Scalar",
                           "aten::div.Tensor",
                           "aten::div.Scalar",
                           "aten::masked_fill.Scalar",
                           "aten::masked_fill.Tensor",
                           "aten::where.self",
                           "aten::nan_to_num",
                           "aten::native_dropout",
                           "aten::view",
                           "aten::_unsafe_view",
                           "aten::reshape",
                           "aten::copy_",
                           "aten::add_.Tensor",
                           "aten::index_put_"}) {
    check::that(watched.count(name) && find(name), name, __FILE__, __LINE__);
  }
}

TEST("the fused operators have the arguments that the probe takes") {
  EXPECT(schemaOf("aten::_native_multi_head_attention") ==
         "aten::_native_multi_head_attention(Tensor query, Tensor key, Tensor value, int embed_dim, int num_head, "
         "Tensor qkv_weight, Tensor qkv_bias, Tensor proj_weight, Tensor proj_bias, Tensor? mask=None, bool "
         "need_weights=True, bool average_attn_weights=True, int? mask_type=None) -> (Tensor, Tensor)");
  EXPECT(schemaOf("aten::_transformer_encoder_layer_fwd") ==
         "aten::_transformer_encoder_layer_fwd(Tensor src, int embed_dim, int num_heads, Tensor qkv_weight, Tensor "
         "qkv_bias, Tensor proj_weight, Tensor proj_bias, bool use_gelu, bool norm_first, float eps, Tensor "
         "norm_weight_1, Tensor norm_bias_1, Tensor norm_weight_2, Tensor norm_bias_2, Tensor ffn_weight_1, Tensor "
         "ffn_bias_1, Tensor ffn_weight_2, Tensor ffn_bias_2, Tensor? mask=None, int? mask_type=None) -> Tensor");
  EXPECT(schemaOf("aten::scaled_dot_product_attention").find("bool enable_gqa=False") != std::string::npos);
}

TEST("normalizations name the buffers that they write in training running_mean and running_var") {
  for (const auto* name : {"aten::batch_norm", "aten::native_batch_norm", "aten::instance_norm"}) {
    const auto schema = schemaOf(name);
    EXPECT(schema.find("running_mean") != std::string::npos && schema.find("running_var") != std::string::npos);
  }
}

TEST("an operator watcher visits each operator once, also those registered later") {
  static auto* const watcher = new lta::OperatorWatcher([](const c10::OperatorHandle& op) {
    if (op.operator_name().name.starts_with("lta_torch_test::")) ++visited;
  });
  watcher->visitNew();
  EXPECT(visited == 0);
  torch::Library library(torch::Library::DEF, "lta_torch_test", std::nullopt, __FILE__, __LINE__);
  library.def("first(Tensor x) -> Tensor");
  watcher->visitNew();
  watcher->visitNew();
  EXPECT(visited == 1);
  library.def("second(Tensor x) -> Tensor");
  watcher->visitNew();
  EXPECT(visited == 2);
}

TEST("run-local objects propagate with the thread state, and nest") {
  for (const auto slot : {lta::kCancellationSlot, lta::kHookSlot, lta::kCaptureSlot}) {
    EXPECT(lta::runLocal<Number>(slot) == nullptr);
    const lta::RunLocalScope outer(slot, std::make_shared<Number>(1));
    {
      const lta::RunLocalScope inner(slot, std::make_shared<Number>(2));
      EXPECT(lta::runLocal<Number>(slot)->value == 2);
    }
    int there = 0;
    std::thread([&, state = lta::ThreadState()] {
      const lta::ThreadStateScope scope(state);
      there = lta::runLocal<Number>(slot)->value;
    }).join();
    EXPECT(there == 1 && lta::runLocal<Number>(slot)->value == 1);
  }
  EXPECT(!(lta::kCancellationSlot == lta::kHookSlot) && !(lta::kHookSlot == lta::kCaptureSlot));
}

TEST("run-local objects propagate to a backward pass") {
  int there = 0;
  const lta::RunLocalScope scope(lta::kHookSlot, std::make_shared<Number>(7));
  auto x = at::ones({2}).requires_grad_();
  const auto y = x * 2;
  y.register_hook([&](const at::Tensor&) {
    const auto* number = lta::runLocal<Number>(lta::kHookSlot);
    there = number ? number->value : -1;
  });
  y.sum().backward();
  EXPECT(there == 7);
}

TEST("a weak storage reference distinguishes storages at the same address, and keeps no memory") {
  auto tensor = at::ones({4});
  const auto weak = lta::weakly(lta::storageOf(tensor));
  auto* const address = lta::storageOf(tensor);
  EXPECT(lta::isStorage(weak, address) && tensor.storage().use_count() == 1);
  tensor.reset();
  EXPECT(weak.expired() && !lta::isStorage(weak, address));
  EXPECT(lta::storageOf(at::Tensor()) == nullptr);
}

TEST("an alias isn't a view, and shares memory and version counter") {
  const auto tensor = at::ones({3});
  const auto alias = lta::aliasOf(tensor);
  EXPECT(!alias.is_view() && alias.is_alias_of(tensor) && !alias.is_same(tensor));
  const auto before = alias._version();
  tensor.add_(1);
  EXPECT(alias._version() == before + 1);
}

TEST("sizes of storages agree with libtorch, and overflows are refused") {
  EXPECT(lta::bytesOfContiguous({2, 3}, at::kFloat) == 24);
  EXPECT(lta::bytesReachedBy(at::ones({4, 6}).transpose(0, 1).narrow(0, 1, 2)) == (18 + 3) * 4);
  bool refused = false;
  try {
    lta::bytesOfContiguous({int64_t{1} << 40, int64_t{1} << 40}, at::kDouble);
  } catch (const c10::Error&) {
    refused = true;
  }
  EXPECT(refused);
}

TEST("held memory survives a reallocation of its storage") {
  auto tensor = at::full({8}, 3.0f);
  const auto* const data = tensor.const_data_ptr<float>();
  const auto held = lta::holdMemory(tensor.storage());
  EXPECT(lta::holdMemory(tensor.storage()) == held && tensor.const_data_ptr<float>() == data);
  tensor.resize_({100'000});
  tensor.fill_(5.0f);
  EXPECT(data[7] == 3.0f && tensor.const_data_ptr<float>() != data);
}

TEST("the sizes of a nested tensor are a matrix on the CPU") {
  const auto padded = at::ones({2, 3, 4});
  const auto mask = at::tensor({1, 1, 0, 1, 1, 1}).view({2, 3}).to(at::kBool);
  const auto sizes = lta::sizesOfNested(at::_nested_tensor_from_mask(padded, mask, /*mask_check=*/false));
  EXPECT(sizes.is_cpu() && at::equal(sizes, at::tensor({2, 4, 3, 4}, at::kLong).view({2, 2})));
}

TEST("a device type that no library registers has no devices") {
  EXPECT(lta::deviceCount(c10::DeviceType::XLA) == 0);
  EXPECT((lta::deviceCount(c10::DeviceType::CUDA) > 0) == at::hasCUDA());
}

TEST("the number of intra-op threads is thread-local") {
  int one = 0, other = 0;
  std::thread([&] {
    lta::initialiseIntraOpThreads();
    at::set_num_threads(1);
    std::thread([&] {
      at::set_num_threads(2);
      other = at::get_num_threads();
    }).join();
    one = at::get_num_threads();
  }).join();
  EXPECT(one == 1 && other == 2);
}

TEST("libtorch's errors are split into message and backtrace") {
  try {
    at::ones({2, 3}).matmul(at::ones({2, 3}));
    EXPECT(false);
  } catch (const c10::Error& error) {
    const auto text = lta::errorTextOf(error);
    EXPECT(text.message.find("Exception raised from") == std::string::npos &&
           text.message.find('\n') == std::string::npos);
    EXPECT(text.message.find("mat1") != std::string::npos && text.stack.find(text.message) != std::string::npos);
  }
}

TEST("an operator without a kernel for a device is named without libtorch's table of backends") {
  std::string message;
  std::string stack;
  try {
    at::empty({1}, at::TensorOptions().device(c10::DeviceType::XPU));
  } catch (const c10::Error& error) {
    const auto text = lta::errorTextOf(error);
    message = text.message;
    stack = text.stack;
  }
  EXPECT(message.find("'aten::empty.memory_format' can't run on tensors of the kind 'XPU': the program itself names") ==
         0);
  EXPECT(message.find("registered at") == std::string::npos && stack.find("registered at") != std::string::npos);
}

TEST("the error of a duplicate registration names the file of the first") {
  std::string file;
  try {
    const torch::Library again(torch::Library::DEF, "lta", std::nullopt, "/other/file", 0);
  } catch (const c10::Error& error) {
    file = lta::firstRegistrationSite(error.what());
  }
  EXPECT(!file.empty() && file.front() == '/' && file != "/other/file");
}

#if defined(__GLIBC__)
TEST("forked tasks run on the pool that this project registers, whose threads have deep stacks") {
  std::promise<size_t> size;
  at::launch([&] {
    pthread_attr_t attributes;
    size_t bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      pthread_attr_getstacksize(&attributes, &bytes);
      pthread_attr_destroy(&attributes);
    }
    size.set_value(bytes);
  });
  EXPECT(size.get_future().get() >= size_t{1} << 30);
}
#endif
