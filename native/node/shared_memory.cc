#include "node/shared_memory.h"

#include <ATen/ATen.h>

#include <memory>

#include "node/environment.h"
#include "node/values.h"

namespace lta::node {
namespace {

// What keeps one array, from the tensor's making to its end.
struct Loan {
  std::shared_ptr<Channel> channel;
  napi_ref array;
};

void giveBack(const Loan& loan) {
  // References belong to the event loop's thread. Where the environment is gone, so are they.
  loan.channel->post([array = loan.array](napi_env env) {
    if (env) napi_delete_reference(env, array);
  });
  loan.channel->giveBack();
}

}  // namespace

at::Tensor tensorOn(Napi::TypedArray array, at::IntArrayRef shape, at::ScalarType type) {
  if (array.ByteLength() == 0) return at::empty(shape, at::TensorOptions().dtype(type));
  const Napi::Env env = array.Env();
  napi_ref reference = nullptr;
  if (napi_create_reference(env, array, 1, &reference) != napi_ok) throw Napi::Error::New(env);
  const auto loan = std::make_shared<Loan>(Loan{environment(env).channel, reference});
  loan->channel->lend();
  return at::from_blob(
      const_cast<char*>(bytesOf(array)), shape, [loan](void*) { giveBack(*loan); }, at::TensorOptions().dtype(type));
}

}  // namespace lta::node
