// Scores and weights followed through a run. Knows no capture.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "capture/fixed_tensors.h"
#include "capture/flow/arrangement.h"
#include "capture/flow/call.h"
#include "capture/flow/layout.h"
#include "capture/flow/product.h"
#include "capture/flow/rules.h"
#include "capture/flow/value.h"
#include "capture/module_resolver.h"
#include "capture/retained_tensors.h"
#include "capture/unseen.h"
#include "torch/storage.h"

namespace lta::flow {

// Why some attention has no matrix: of keys times values that are summed first, and of outer products.
inline constexpr const char* kLinear =
    "linear attention: keys and values are multiplied first, so that no matrix of queries and keys exists";
inline constexpr const char* kRecurrence =
    "a recurrence whose states are outer products (a state-space layer, linear attention, a delta rule): no matrix of "
    "queries and keys exists";

// Of weights that add up to one along something else than what their product sums over.
inline constexpr const char* kSharedOut =
    "a softmax over another dimension than the positions that its product with values was summed over: each of those "
    "is shared out (slots, capsules, clusters)";

// Of weights that are scaled after their product.
inline constexpr const char* kWithinBlock =
    "the logarithm of its sum is taken as well: where that scales what its product gave (a softmax in blocks), these "
    "are the weights within one block";

// An operand of a product that is attention weights.
struct Consumed {
  at::Tensor operand;
  at::Tensor point;  // whose gradient is the operand's; undefined: the operand itself
  Arrangement arrange;
  ValuePtr value;
  Kind kind;
  int64_t key = kNone;         // the dimension of the matrix that was summed over
  std::string module;          // of what made the weights
  std::string scoresModule;    // of the product that the scores come from
  bool mayBeNameless = false;  // the product is one that the JIT makes of others
  bool headsKnown = false;     // a single leading dimension is batch
  bool headsGuessed = false;   // the dimension read as heads may be another one of the batch
  bool second = false;         // the product's second operand
  // Whether what it gives may turn out to be the inner product of a linear attention, once it is used.
  bool maybeContext = false;
};

// A first dimension that is batch and heads, in whichever order.
struct Lead {
  int64_t outer;
  int64_t inner;
  bool headsFirst = false;
  bool guessed = false;  // what stands behind the batch goes along positions
};

// Follows scores and weights through a run, from the products and softmaxes that make them to the products that consume
// them, by the table of rules. Only weak references are kept, so that nothing lives longer than it would. To be used
// under one lock.
class Flow {
 public:
  Flow(FixedTensors& fixed, RetainedTensors& retained, const ModuleResolver& modules)
      : fixed_(fixed), retained_(retained), modules_(modules) {}

  bool empty() const { return notes_.empty(); }

  // Whether a tensor is more than features: scores, weights, or what is chosen or made by them.
  bool follows(const at::Tensor& tensor) const;
  // Whether a tensor holds weights.
  bool isWeights(const at::Tensor& tensor) const;

  // Whether an operator that takes these has anything to do with what is followed.
  bool concerns(c10::ArrayRef<c10::IValue> arguments) const;

  // `result` = softmax(`input`) along `dim`.
  void softmax(const at::Tensor& input, const at::Tensor& result, int64_t dim, const char* operatorName);

  // An operator ran and gave `result`. What it consumed, where it completed a product written out as one.
  std::optional<Consumed> ran(const Call& call, const at::Tensor& result);
  // Whether an operator may compare each position with each other one, whatever they are, or is on the way to that: its
  // operands are broadcast to each other, or one was expanded.
  static bool mayPair(Does does, c10::ArrayRef<c10::IValue> arguments);
  // Whether an operator picks matrices from a table of constants.
  static bool picksMatrices(Does does, const at::Tensor& table);

  // Ahead of a product: the operand that is attention weights, if one is.
  std::optional<Consumed> product(const Rule& rule, const at::Tensor& a, const at::Tensor& b);
  // Once it ran. `consumed`: whether it was one with attention weights.
  void productRan(const Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                  const at::Tensor& result, bool consumed);

  // The product of batch and heads that a tensor's first dimension is, where a reshape told.
  std::optional<Lead> leadOf(const at::Tensor& tensor) const;

  // Whether anything of a matrix can still be consumed.
  bool lives(const Matrix& matrix) const;

  // Of a tensor with more than four dimensions, the one of its heads, where that isn't the last but two.
  std::optional<int64_t> headsOf(const at::Tensor& tensor) const;
  // How many of the last of its leading dimensions are heads (in groups), at least 1.
  int64_t headDimsOf(const at::Tensor& tensor) const;
  // Whether nothing tells that the last of its leading dimensions is heads.
  bool headsGuessed(const at::Tensor& tensor) const;

  // What gives `output` may be the inner product of a linear attention: `decide` is called once it is used, with
  // whether it was.
  using Decide = std::function<void(bool linear)>;
  void watchContext(const at::Tensor& output, int64_t rows, Decide decide);
  // What was decided by now: to be called, without the lock, in this order.
  std::vector<std::pair<Decide, bool>> takeDecided() { return std::exchange(decided_, {}); }
  void decideAll();

  // An operator that isn't followed took these and gave `result`. Whether there are scores or weights among them.
  bool taken(const std::string& name, const std::vector<c10::IValue>& arguments, const at::Tensor& result);

  void list(Unseen unseen) { unseen_.push_back(std::move(unseen)); }
  // What looked like attention and wasn't recorded, once the run is over.
  std::vector<Unseen> unseen() const;

 private:
  // Dimensions that parameters made: classes, experts, features.
  struct Feature {
    int64_t stride;
    int64_t size;
    bool layer;           // of a layer, not of a product written out
    bool stacked;         // tensors were put side by side
    int64_t whole;        // how many the layer made in all
    bool scored = false;  // those were put side by side, then a layer was applied to each
    bool chosen = false;  // some of them were picked
  };
  // A factor of a dimension, and what it goes along; null for positions and the batch.
  struct FeaturePart {
    int64_t size;
    int64_t stride;
    const Feature* feature;
  };
  struct Reduced {
    MatrixPtr matrix;
    Does does;
    int64_t dim;
    int64_t version = 0;  // of what was reduced
    bool exact = true;
    bool shifted = false;           // something was added to it, or subtracted
    bool byConstants = true;        // those were constants
    int64_t exponentOf = 0;         // of exponentials, or of a log-sum-exp: the version of the scores
    int64_t unshifted = 0;          // as values have it
    std::vector<MatrixPtr> others;  // whose sums were added
  };
  // What the values are to the weights that multiply them.
  struct Beside {
    bool features = false;       // a layer made what they have along the keys
    bool stacked = false;        // they were put side by side
    bool distributions = false;  // they are softmaxes over something else
    bool experts = false;        // matrices that were picked, or mixed, one for each key, made them
    bool marks = false;          // they are ones and zeros
  };
  // A product written out as multiplication and sum: what was multiplied.
  struct Multiplied {
    at::Tensor given;
    Beside beside;
    int64_t channel = kNone;  // of weights for each channel: the dimension of those
    int64_t key = kNone;      // what is summed over, and where it is in what they gave
    int64_t stride = 0;
    std::shared_ptr<RetainedTensor> operand;
    View view;
    ValuePtr value;
  };
  struct Context {
    Decide decide;
  };
  // Tensors of one size side by side: a view into as many as there were stacks them.
  struct Joined {
    int64_t dim;
    int64_t count;
    int64_t stride;                // from one to the next
    bool ofOneLayer;               // as in the steps of a recurrence
    std::vector<int64_t> stacked;  // the sizes of that view
  };
  // Scores written out: activations that were multiplied, each with a dimension of its own, before they are summed over
  // one that both have.
  struct WrittenOut {
    struct Dimension {
      Role role;
      bool feature;     // a layer made it
      bool contracted;  // both have it
      bool ofFeatures;  // a layer made it in both
    };
    Layout layout;
    std::vector<Dimension> dims;
    int64_t fixed = kNone;  // of one with a table of constants: the dimension that is the table's
    bool bothOwn = false;   // each has a dimension that the other hasn't
    bool constant = false;  // one of them is a table of constants
    bool vector = false;    // that has no dimension of its own
    bool pairs = false;     // of what no layer made, or differences: any distances and similarities of positions
    // Differences instead of products: their absolute values or squares are summed.
    bool differences = false;
    bool nonnegative = false;  // those
    std::string operatorName;
  };
  // What a number for each position multiplied: the positions, as strides and sizes.
  struct Gated {
    std::vector<std::pair<int64_t, int64_t>> positions;
    std::vector<int64_t> sizes;  // of the numbers
    std::string operatorName;
    const char* reason = nullptr;
    MatrixPtr softmax;  // over another dimension, of which they are
  };
  // Exponentials that no product of queries and keys led to: a softmax, once they are divided by their sum.
  struct Raised {
    std::string operatorName;
    std::string module;
    bool listed = false;
  };
  // Keys times values of each position, feature by feature, that were added up: the state of a linear attention that
  // has as many heads as features, once queries multiply it.
  struct Pooled {
    std::string operatorName;
    std::vector<int64_t> sizes;
  };
  // What the weight of one key gave with a value, or several of those that were added up, or put side by side.
  struct Term {
    MatrixPtr of;
    bool joined = false;
  };
  using RaisedPtr = std::shared_ptr<Raised>;
  struct RaisedTerm {
    RaisedPtr of;
    int64_t terms = 1;    // how many were added up
    int64_t factors = 0;  // how often something else multiplied each of them
  };
  struct RaisedSum {
    RaisedPtr of;
    int64_t dim;  // kNone: over groups
    bool exact = true;
    int64_t factors = 0;
  };
  // What is known of how something came about that depends on no input.
  enum class Fixed : uint8_t {
    No,
    OfLayer,  // a layer made it of constants
    Scores,   // a product of two such
  };
  struct Note {
    WeakStorage storage;
    Layout layout;
    ValuePtr value;  // of scores and weights
    std::shared_ptr<const Multiplied> multiplied;
    std::optional<Reduced> reduced;
    std::vector<Feature> features;
    bool layer = false;    // a layer made it: what isn't along a feature goes along positions
    bool table = false;    // a matrix of parameters for each of the batch, picked or mixed by what inputs say
    bool byTable = false;  // such a matrix made it
    std::vector<std::pair<int64_t, int64_t>> tables;  // the strides and sizes along which it is another one; empty: all
    const void* by = nullptr;                         // where the layer's weight is
    bool summed = false;                              // what another layer made was added
    bool gates = false;                               // a sigmoid of what a layer made
    // Dimensions along which it is the same everywhere, in memory of its own: strides and sizes.
    std::vector<std::pair<int64_t, int64_t>> constant;
    std::shared_ptr<const WrittenOut> writtenOut;
    std::shared_ptr<const Gated> gated;
    std::shared_ptr<const Pooled> pooled;
    MatrixPtr chosen;  // positions of the largest elements
    MatrixPtr lost;    // scores or weights that it was made of, in a way that isn't followed
    MatrixPtr weighs;  // those that something was multiplied with here
    MatrixPtr mixes;   // a softmax of a router that mixed rows of a table of constants here
    Fixed fixed = Fixed::No;
    std::optional<Term> term;
    std::optional<RaisedTerm> raised;
    std::optional<RaisedSum> raisedSum;
    std::optional<Lead> lead;
    std::optional<Joined> joined;
    std::shared_ptr<Context> context;
    int64_t contextRow = 0;  // stride of the context's rows
    explicit Note(WeakStorage weak) : storage(std::move(weak)) {}
  };
  struct Operand {
    at::Tensor tensor;
    const Note* note = nullptr;
    std::optional<View> view;
    explicit operator bool() const { return note && note->value && view; }
    const Value& value() const { return *note->value; }
    Matrix& matrix() const { return *note->value->matrix; }
  };

  // Tells a layer's weight from others in the same memory.
  static const void* placeOf(const at::Tensor& weight);
  const Note* find(const at::Tensor& tensor) const;
  Note& noteOf(const at::Tensor& tensor);
  Note& newNote(const at::Tensor& tensor);
  Operand operandOf(const at::Tensor& tensor) const;
  bool isFixed(const at::Tensor& tensor) const { return tensor.defined() && fixed_.contains(tensor); }
  bool isTable(const at::Tensor& tensor) const;
  void mixesRows(const Operand& weights, const at::Tensor& table, int64_t own, const at::Tensor& result);
  void usedAsKernel(const at::Tensor& mixed);
  bool isGenerated(const at::Tensor& tensor, int64_t summed, int64_t own) const;
  const Feature* featureAlong(const at::Tensor& tensor, int64_t dim) const;
  // Whether features may be heads: not tokens that were put side by side before a layer was applied to each of them.
  static bool mayBeHeads(const Feature* feature) { return feature && !(feature->stacked && feature->scored); }
  // What a dimension is made of, outermost first, where features are a part of it; else nothing.
  std::vector<FeaturePart> featureParts(const at::Tensor& tensor, int64_t dim) const;
  // Its features, as if its elements lay in memory with other strides: those of `strides`, by dimension.
  std::vector<Feature> featuresAt(const at::Tensor& tensor, const std::vector<int64_t>& strides) const;
  std::vector<Feature> sharedFeatures(const at::Tensor& source, const std::vector<int64_t>& from,
                                      const at::Tensor& result) const;
  void copyFeatures(const at::Tensor& source, const at::Tensor& result);
  // Whether a dimension goes along positions: a layer made the tensor, and not that dimension.
  bool isPositions(const at::Tensor& tensor, int64_t dim) const;
  static bool isOutOfOrder(const at::Tensor& tensor, const std::vector<int64_t>& from, int64_t last);

  // Whether a dimension has coordinates that differ.
  bool varies(const at::Tensor& tensor, int64_t dim) const;
  void constantBeyond(const Call& call, const at::Tensor& result);

  void elementwise(const Call& call, const at::Tensor& result);
  void elementByElement(const Call& call, const std::vector<at::Tensor>& tensors, const std::vector<Operand>& sources,
                        const at::Tensor& result);
  void ownFeatures(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void noteOperands(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void combined(const Call& call, const std::vector<Operand>& sources, const std::vector<at::Tensor>& tensors,
                const at::Tensor& result);
  std::shared_ptr<const Multiplied> multipliedBy(const Operand& weights, const std::vector<at::Tensor>& tensors,
                                                 const at::Tensor& result) const;
  static int64_t keyBeside(const Operand& weights, const at::Tensor& values, const at::Tensor& result);
  static bool isLayers(const Operand& operand);
  static bool isChannel(const Operand& weights, int64_t dim);
  static bool isPerChannel(const Operand& weights);
  static bool areOfTwoAxes(const Operand& a, const Operand& b, const at::Tensor& result);
  void overwritten(const at::Tensor& tensor, const at::Tensor& by);
  static MatrixPtr tracedTo(const Note& note);
  void lose(const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void losing(const Call& call, const at::Tensor& result);
  void forget(const at::Tensor& tensor);
  void fixedProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& result);
  void stayFixed(const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void weighed(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void weighs(const MatrixPtr& matrix, bool lost);
  void scaledByLogSum(Matrix& scores);
  void logSummed(Matrix& scores);
  bool outer(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void constantAlong(const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void writtenOut(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  std::shared_ptr<const WrittenOut> differences(const Call& call, const std::vector<at::Tensor>& tensors,
                                                const at::Tensor& result) const;
  bool writtenOutSummed(const Call& call, const at::Tensor& result);
  void gated(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void gatedSummed(const Call& call);
  MatrixPtr oneKeyOf(const Operand& weights) const;
  void terms(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  void joinedTerms(const Call& call, const at::Tensor& result);
  void summedTerms(const Call& call);
  void placedTerms(const Call& call, const at::Tensor& result);
  void pooled(const Call& call, const at::Tensor& result);
  void pooledRead(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  static bool isOfOneKey(const Operand& gate);
  static bool isOfOtherKeys(const Operand& gate);
  bool isGatePosition(const Operand& gate, int64_t dim) const;
  bool isOverPositionsOfALayer(const Operand& gate, const at::Tensor& values) const;
  void gates(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  bool gatesSlots(const at::Tensor& gates, int64_t summed, int64_t own, const at::Tensor& values, int64_t keys) const;
  void gatesOfSlots(const MatrixPtr& scores, const at::Tensor& a, const at::Tensor& b, const Product& product);
  bool isOfPairs(const at::Tensor& pairs, int64_t summed, int64_t own, const at::Tensor& values, int64_t keys,
                 int64_t column) const;
  bool gatedProduct(const std::string& name, const at::Tensor& a, const at::Tensor& b, const Product& product,
                    const at::Tensor& result);
  void raised(const Call& call, const std::vector<at::Tensor>& tensors, const at::Tensor& result);
  bool raisedSummed(const Call& call, const at::Tensor& result);
  void raisedMixed(const at::Tensor& a, const at::Tensor& b, const at::Tensor& result);
  void reshaped(const at::Tensor& source, const at::Tensor& result);
  void contextBeyond(const at::Tensor& source, const at::Tensor& result);
  void repeatedFeatures(const at::Tensor& source, const at::Tensor& result);
  std::optional<Consumed> followed(const Call& call, const at::Tensor& result);
  std::optional<Consumed> reduced(const Call& call, const at::Tensor& result);
  bool areOfOneLayer(const std::vector<at::Tensor>& tensors) const;
  bool areOfLayers(const std::vector<at::Tensor>& tensors) const;
  bool normalizesPairs(const Call& call, const at::Tensor& result);
  const Feature* chunked(const std::vector<at::Tensor>& tensors) const;
  void stacked(const at::Tensor& view);
  void joined(const Call& call, const at::Tensor& result);
  void joinedFeatures(const Call& call, const std::vector<at::Tensor>& tensors, int64_t dim, const at::Tensor& result);
  static Joined joinedAlong(const std::vector<at::Tensor>& tensors, int64_t dim, const at::Tensor& result,
                            bool ofOneLayer);
  void joinedQueries(const std::vector<at::Tensor>& tensors, int64_t along, const at::Tensor& result);
  void indexed(const Call& call, const at::Tensor& result);
  bool isMadeTable(const Call& call, const at::Tensor& result) const;
  std::optional<std::vector<std::pair<int64_t, int64_t>>> tablesBehind(const Call& call,
                                                                       const at::Tensor& result) const;
  // Whether such matrices made a tensor, each place along a dimension by one of its own.
  bool isByTable(const at::Tensor& tensor, int64_t dim) const;
  void pickedFeatures(const Call& call, const at::Tensor& source, const at::Tensor& result);
  void indexedFeatures(const Call& call, const at::Tensor& source, const at::Tensor& result);
  void convolved(const Call& call, const at::Tensor& result);
  void unfolded(const Call& call, const at::Tensor& result);

  // `otherWeights`: what those beside it are, where there are some.
  ValuePtr after(const Call& call, const Operand& source, const at::Tensor& result, std::optional<Kind> otherWeights);
  // Follows `result`: `from[i]` is the dimension of `source` that its dimension i comes from (kForeign: none), and
  // `changed[i]` whether coordinates along it are others. `combined`: values of several coordinates went into one.
  void follow(const Operand& source, const at::Tensor& result, const std::vector<int64_t>& from,
              const std::vector<bool>& changed, bool combined, Value value, std::vector<MatrixPtr> others = {});

  struct Aim {
    int64_t key = kNone;
    int64_t row = kNone;
    bool touches = false;  // the sum runs over keys or queries
    bool single = false;   // the product has one row
  };
  Aim aimOf(const Operand& weights, int64_t summed, int64_t row) const;
  // One operand of a product: the dimension that is summed over, and the one that it alone has (kForeign: it has none).
  struct Side {
    const at::Tensor& tensor;
    int64_t summed;
    int64_t own;
  };
  std::optional<Consumed> consumedBy(const Operand& weights, const Side& side, const Side& other);
  bool isMixture(Matrix& matrix, const Aim& aim, const Beside& beside);
  bool isPlaced(Matrix& matrix, const Beside& beside);
  bool isOfHypernetwork(const Operand& weights, const at::Tensor& other);
  Beside besideOf(const Matrix& weights, const at::Tensor& values, int64_t dim) const;
  void headsOfValues(const Operand& weights, const std::vector<int64_t>& ofWeights, const at::Tensor& values,
                     const std::vector<int64_t>& ofValues);
  void splitHeads(const Operand& weights, int64_t joint, const std::vector<int64_t>& ofWeights,
                  const at::Tensor& values, const std::vector<int64_t>& ofValues);
  bool isDiagonal(const at::Tensor& tensor, int64_t own) const;
  bool scaledByDiagonal(const std::string& name, const Operand& weights, const std::vector<int64_t>& ofWeights,
                        int64_t summed, const at::Tensor& other, const std::vector<int64_t>& ofOther, int64_t own,
                        const at::Tensor& result);
  static bool areComposed(const Operand& a, const Operand& b, const Product& product);
  void composed(const std::string& name, const Operand& a, const Operand& b, const Product& product,
                const at::Tensor& result);
  Consumed consume(const at::Tensor& operand, const View& view, const ValuePtr& value, const Aim& aim) const;
  void products(const Rule& rule, const std::string& name, const at::Tensor& a, const at::Tensor& b,
                const at::Tensor& result);
  void listMatrix(Matrix& matrix, std::string reason);
  void chosen(const MatrixPtr& matrix);
  void taken(const Call& call);
  void decide(const Note& note, bool linear);

  FixedTensors& fixed_;
  RetainedTensors& retained_;
  const ModuleResolver& modules_;
  std::unordered_map<const c10::StorageImpl*, Note> notes_;
  bool anyTable_ = false;  // so far
  size_t sweepAt_ = 64;
  std::vector<std::weak_ptr<Matrix>> softmaxes_;
  std::vector<MatrixPtr> matrices_;  // softmaxes of scores: to be told of where they met nothing
  std::vector<std::weak_ptr<Context>> contexts_;
  std::vector<std::pair<Decide, bool>> decided_;
  std::vector<Unseen> unseen_;
  int64_t versions_ = 0;
};

}  // namespace lta::flow
