#include "runtime/allowed_operators.h"

#include <unordered_set>

namespace lta {
namespace {

using Names = std::unordered_set<std::string>;

const std::string kAten = "aten::";

// Parts of operators that stand in exported graphs alone. None takes a place in memory from the program, or reads
// beyond its tensors; what makes tensors of memory that nobody has written isn't among them.
const Names& graphOperators() {
  static const auto* names = new Names{
      "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d",
      "_assert_async",
      "_assert_scalar",
      "_cdist_forward",
      "_conj",
      "_fft_c2c",
      "_fft_c2r",
      "_fft_r2c",
      "_linalg_check_errors",
      "_linalg_det",
      "_linalg_eigh",
      "_linalg_slogdet",
      "_linalg_solve_ex",
      "_linalg_svd",
      "_local_scalar_dense",
      "_native_batch_norm_legit",
      "_native_batch_norm_legit_no_training",
      "_scaled_dot_product_attention_math",
      "_scaled_dot_product_flash_attention_for_cpu",
      "_to_copy",
      "alias",
      "detach_",
      "lift_fresh_copy",
      "sym_constrain_range",
      "sym_constrain_range_for_size",
      "sym_is_contiguous",
      "sym_numel",
      "sym_size",
      "sym_storage_offset",
      "sym_stride",
  };
  return *names;
}

}  // namespace

bool isAllowedOperator(const std::string& name) {
  static const auto* names = new Names{
#include "runtime/allowed_operators.inc"
  };
  return names->count(name) > 0;
}

bool isAllowedInGraphs(const c10::OperatorName& name) {
  if (!name.name.starts_with(kAten)) return false;
  const auto plain = name.name.substr(kAten.size());
  return isAllowedOperator(plain) || graphOperators().count(plain) > 0;
}

}  // namespace lta
