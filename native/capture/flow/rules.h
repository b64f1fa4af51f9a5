// The table of operators that are followed.
#pragma once

#include <cstdint>
#include <string_view>

namespace lta::flow {

// What an operator does to the values and the dimensions of the tensors that it takes.
enum class Does : uint8_t {
  // Element by element, operands broadcast: all dimensions stay.
  Copies,         // the same values: casts, copies
  Scales,         // times, or divided by, something
  Adds,           // plus something
  Subtracts,      // minus something
  SubtractsFrom,  // something minus it
  Masks,          // some elements put to something else
  Clamps,         // from below or above
  Powers,         // nonnegative where it was
  Exponentiates,
  Logarithms,
  Sigmoid,
  Relu,
  KeepsSign,  // a function that gives nothing negative of what isn't
  Bends,      // any other function of one number
  // Each element out of several, dimensions stay.
  Accumulates,
  Normalizes,
  LogSoftmax,
  // Dimensions change.
  Sums,       // `dim`: those that go
  Averages,   // `dim`
  Extremes,   // `dim`: the largest or smallest
  LogSums,    // `dim`
  Norms,      // `dim`
  Picks,      // other coordinates along `dim`: top k, sorted, gathered, flipped
  Selects,    // the coordinates that a list names along `dim`
  Indexes,    // a list of index tensors
  Scatters,   // `dim`: into something that may be longer along it
  Chooses,    // where the largest element is
  Marks,      // ones where such a choice is
  Resamples,  // another grid along the last dimensions, averages of neighbours
  Pads,
  Repeats,
  Concatenates,  // `dim`, a list of tensors
  Stacks,        // `dim`, a list of tensors: a new dimension
  Convolves,     // mixes the second dimension
  Unfolds,       // windows beside each other, each with the channels of its places
  Recurs,        // steps of a recurrence along the first or the second dimension, features behind
  Layers,        // a layer whose weights are packed
  Embeds,        // rows of a table
  // Products: two operands and what they are summed over.
  Matmul,
  Bmm,
  Mm,
  Mv,
  Linear,  // the second operand is transposed
  Distance,
  // Takes scores or weights where they can't be followed.
  Takes,
  // What it makes of them isn't followed, but remembers them.
  Loses,
  // Made of other operators, which are followed under its name.
  Contains,
  // A view or a copy of another shape.
  Reshapes,
  // A tensor that depends on no input.
  Makes,
  // Truths, element by element: of what depends on no input, a mask that doesn't either.
  Compares,
  // Transforms of Fourier: between one and its inverse, what multiplies is a convolution over all positions.
  Fourier,
  InverseFourier,
};

// The one table of operators that are followed: by name (of aten's, without the namespace), without overload, without
// the underscore of those that write in place. `operand` and `other` are positions of arguments.
struct Rule {
  const char* name;
  Does does;
  int8_t operand = 0;
  int8_t other = 1;
  bool biased = false;  // adds something to a product
};

// None where the operator isn't followed: what it gives is new.
const Rule* ruleFor(std::string_view operatorName);
// Of those that compute one number of each, and have none of their own.
const Rule& ruleOfPointwise();

bool isPointwise(Does does);
bool isProduct(Does does);

}  // namespace lta::flow
