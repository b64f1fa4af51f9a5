// What the products of a forward took of each matrix of attention weights.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "capture/assembly.h"
#include "capture/flow/flow.h"
#include "capture/pending_attention.h"

namespace lta {

// A product takes a matrix of weights whole, or a part of it (slices, one head or one sample at a time), and parts make
// one attention. The same matrix, with other things done to it, may be several attentions. Not safe to use from several
// threads at once.
class TakenWeights {
 public:
  using PendingPtr = std::shared_ptr<PendingAttention>;

  // A product took the matrix whole. `first`: nothing took these weights before. Else, where parts of them were taken,
  // `completed` is that attention, which `part` (called only then) is now the whole of.
  struct Whole {
    bool first;
    PendingPtr completed;
  };
  Whole takeWhole(const flow::Consumed& consumed, const std::function<Assembly::Part()>& part);

  // A product took a part. Null where these weights were taken before; else the attention that it was added to: one
  // that lacked it, or a new one, made by `create`.
  struct Part {
    PendingPtr pending;
    bool first;
  };
  Part takePart(const flow::Consumed& consumed, const std::function<PendingPtr()>& create,
                const std::function<Assembly::Part()>& part);

  // No more parts are to come. False where that was said before.
  bool close(const PendingPtr& pending);

  // Those that are open, and those of them of whose matrix nothing is left.
  const std::vector<PendingPtr>& open() const { return open_; }
  std::vector<PendingPtr> openWithout(const std::function<bool(const flow::Matrix&)>& lives) const;

 private:
  struct Taken {
    int64_t version;
    int64_t key;
    PendingPtr pending;  // while parts may come
  };
  struct OfMatrix {
    flow::MatrixPtr matrix;  // keeps the key of the map unique
    std::vector<Taken> taken;
  };
  std::vector<Taken>& of(const flow::MatrixPtr& matrix);

  std::unordered_map<const flow::Matrix*, OfMatrix> matrices_;
  std::vector<PendingPtr> open_;
};

}  // namespace lta
