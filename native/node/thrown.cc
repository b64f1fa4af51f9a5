#include "node/thrown.h"

#include <memory>

#include "node/environment.h"

namespace lta::node {
namespace {

class Thrown {
 public:
  explicit Thrown(Napi::Object box)
      : channel_(environment(box.Env()).channel),
        reference_(std::make_unique<Napi::ObjectReference>(Napi::Persistent(box))) {}
  ~Thrown() { forget(*channel_, std::move(reference_)); }
  Thrown(const Thrown&) = delete;
  Thrown& operator=(const Thrown&) = delete;

  Napi::Object box() const { return reference_->Value(); }

 private:
  const std::shared_ptr<Channel> channel_;
  std::unique_ptr<Napi::ObjectReference> reference_;
};

}  // namespace

Error::Cause thrown(Napi::Object box) { return std::make_shared<Thrown>(box); }

Napi::Object boxOf(Napi::Env, const Error::Cause& cause) { return static_cast<Thrown*>(cause.get())->box(); }

}  // namespace lta::node
