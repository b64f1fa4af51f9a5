#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "exported/package.h"

namespace lta::exported {

// What a file says of a tensor; none of its numbers is negative.
struct TensorMeta {
  at::ScalarType dtype;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
  int64_t offset;
  bool requiresGrad;
};

// Makes tensors of records, each of which is read once: tensors of one record share its memory.
class Storages {
 public:
  using BytesOf = std::function<Bytes(const std::string& record)>;
  explicit Storages(BytesOf bytesOf) : bytesOf_(std::move(bytesOf)) {}

  // `name` is the tensor's, for errors. Throws ERR_MODEL_LOAD for one that doesn't lie inside its record.
  at::Tensor tensor(const std::string& record, const TensorMeta& meta, const std::string& name);

 private:
  const BytesOf bytesOf_;
  std::unordered_map<std::string, Bytes> storages_;
  std::unordered_map<std::string, at::Tensor> wholes_;
};

}  // namespace lta::exported
