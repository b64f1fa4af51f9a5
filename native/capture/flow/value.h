// What is known of scores and weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "capture/flow/layout.h"

namespace lta {

// What weights are. Softmax: rows are distributions over the keys. The others aren't: nonnegative ones that were
// scaled, masked, put together (Unnormalized); weights of either sign (Signed); those that a sigmoid or a relu gave.
enum class Kind : uint8_t { Softmax, Unnormalized, Signed, Sigmoid, Relu };

const char* nameOf(Kind kind);

// Of weights that were scaled or masked: no distribution any more.
inline Kind loosened(Kind kind) { return kind == Kind::Softmax ? Kind::Unnormalized : kind; }

namespace flow {

// What a dimension of a matrix is to the product that the scores come from.
enum class Role : uint8_t {
  Unknown,
  Lead,  // both operands have it: batch, heads
  Free,  // one of them has it: queries or keys
};

inline constexpr int64_t kNone = -1;

// The dimensions of scores, or of weights: what operators that keep coordinates make of them refers to it.
struct Matrix {
  std::vector<int64_t> sizes;
  std::vector<Role> roles;
  int64_t key = kNone;    // what the softmax runs over
  int64_t query = kNone;  // where it is known, or told by the order of dimensions

  bool fromScores = false;     // of a product of two activations
  bool ofFeatures = false;     // that product was summed over dimensions that layers made: queries times keys
  bool allFeatures = false;    // over all that there were: there is one head
  bool headsGuessed = false;   // nothing tells that the last of the leading dimensions is heads
  std::vector<bool> features;  // of the scores: dimensions that layers made themselves
  std::vector<bool> copied;    // dimensions along which something was repeated
  bool ofPositions = false;    // of scores: batch and whatever stands beside it, of which nothing tells heads
  bool queryGrid = false;      // of scores: queries have two dimensions, each of a product of its own
  int64_t fixed = kNone;       // of scores with a table of constants: the dimension that is the table's
  // That table is one that layers made, a whole matrix for each sample: its memory.
  const void* generated = nullptr;
  bool fixedKeys = false;       // the softmax runs over that
  bool chosenKeys = false;      // some keys were chosen
  bool layerKeys = false;       // the softmax's dimension is one that a layer made: classes, experts, bins
  const void* layer = nullptr;  // the weight of that layer
  bool constant = false;        // a softmax of what depends on no input
  bool fixedScores = false;     // which is a product of what layers made of constants
  std::string operatorName;     // what made it: of a softmax or of the scores' product
  std::string module;
  std::vector<std::shared_ptr<Matrix>> parents;

  bool outer = false;    // of scores: an outer product of features
  bool overOne = false;  // of scores: summed over a single number, as an outer product is that was written as a product
  bool pairs = false;    // of scores: distances or similarities of positions, which may be no queries and keys
  bool softmax = false;
  bool logSummed = false;  // of scores: their log-sum-exp was computed as well; of their softmax: that was told
  bool inBlocks = false;   // of scores: that logarithm scales what their weights give
  std::vector<std::weak_ptr<Matrix>> softmaxes;  // of scores: those of them
  bool met = false;                              // a product took its weights, or its fate was told otherwise
  bool told = false;                             // of itself, and not of what a softmax made of it
  bool unexplained = false;  // a softmax of which nothing tells what it runs over: to be told of where it weighs values
  bool weighs = false;       // such a softmax does
  std::string metNothing;    // why what took it was no product with values, where something did

  int64_t dims() const { return static_cast<int64_t>(sizes.size()); }
  bool isFeature(int64_t dim) const {
    const auto place = static_cast<size_t>(dim);
    return place < features.size() && features[place];
  }
  bool isCopied(int64_t dim) const {
    const auto place = static_cast<size_t>(dim);
    return place < copied.size() && copied[place];
  }
  // Whether it is another one, or made of it in some steps.
  bool descendsFrom(const Matrix& origin) const;
  // Whether it, or one that it was made of, was told of.
  bool isTold() const;
  // It, and what it was made of, was told of.
  void meet();
  // One of other dimensions, of the same origin.
  std::shared_ptr<Matrix> relative() const;

  Matrix() = default;
  ~Matrix();
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
};
using MatrixPtr = std::shared_ptr<Matrix>;

// The softmax that a matrix is, or was made of in some steps; where there is none, what it began with.
MatrixPtr softmaxBehind(MatrixPtr matrix);

// What was done to the values of a matrix so far, the last step first.
class Step {
 public:
  Step(std::string operatorName, std::shared_ptr<const Step> before)
      : operatorName_(std::move(operatorName)), before_(std::move(before)) {}
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  const std::string& operatorName() const { return operatorName_; }
  const Step* before() const { return before_.get(); }

 private:
  const std::string operatorName_;
  mutable std::shared_ptr<const Step> before_;
};

enum class Stage : uint8_t {
  Scores,  // no function has made weights of them
  Log,     // logarithms of weights
  Weights,
};

struct Value {
  MatrixPtr matrix;
  Stage stage = Stage::Scores;
  Kind kind = Kind::Signed;
  int64_t normalized = kNone;  // the dimension along which they add up to one
  bool exponential = false;    // exp of scores that nothing has normalized so far
  int64_t lessLogSum = kNone;  // scores from which the logarithm of the sum along this dimension was taken
  int64_t exponentOf = 0;      // exponentials: the version of the scores
  int64_t unshifted = 0;       // less their largest: the version of the scores before; 0: they are as they were
  std::string operatorName;    // of what made weights of scores
  std::string module;
  std::shared_ptr<const Step> last;
  int64_t version = 0;  // values that differ in more than place and type have different ones

  std::vector<std::string> path() const;
};
using ValuePtr = std::shared_ptr<const Value>;

}  // namespace flow
}  // namespace lta
