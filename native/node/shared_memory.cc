#include "node/shared_memory.h"

#include <ATen/ATen.h>

#include <memory>

#include "node/environment.h"
#include "node/values.h"

namespace lta::node {
namespace {

// Keeps one array alive; released even if no tensor is made.
class Loan {
 public:
  explicit Loan(Napi::TypedArray array) : channel_(environment(array.Env()).channel) {
    if (napi_create_reference(array.Env(), array, 1, &array_) != napi_ok) throw Napi::Error::New(array.Env());
    channel_->acquireMemory();
  }

  ~Loan() {
    // References belong to the event loop's thread and are gone with the environment.
    channel_->post([array = array_](napi_env env) {
      if (env) napi_delete_reference(env, array);
    });
    channel_->releaseMemory();
  }

  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;

 private:
  std::shared_ptr<Channel> channel_;
  napi_ref array_ = nullptr;
};

}  // namespace

at::Tensor tensorOn(Napi::TypedArray array, at::IntArrayRef shape, at::ScalarType type) {
  const auto bytes = bytesOf(array);
  if (bytes.empty()) return at::empty(shape, at::TensorOptions().dtype(type));
  // The deleter owns the loan.
  return at::from_blob(
      const_cast<char*>(bytes.data()), shape, [loan = std::make_shared<Loan>(array)](void*) {},
      at::TensorOptions().dtype(type));
}

}  // namespace lta::node
