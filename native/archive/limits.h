#pragma once

#include <cstddef>
#include <cstdint>

// What an archive may ask for before it is refused. The limits that hold for every archive are far above what any
// checkpoint needs; those named untrusted hold for sources that aren't trusted, beside the former.
namespace lta::archive {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kGiB = 1024 * kMiB;

// The zip directory.
constexpr uint64_t kMaxRecords = 1'000'000;
constexpr uint64_t kMaxDirectoryBytes = 512 * kMiB;
constexpr uint64_t kMaxNameBytes = 4 * kKiB;
// A compressed record may be this many times larger once it is decompressed; small ones are free of it.
constexpr uint64_t kMaxCompressionRatio = 256;
constexpr uint64_t kFreeOfRatioBytes = kMiB;

// Pickles.
constexpr uint64_t kMaxPickleBytes = kGiB;
constexpr uint64_t kMaxPickleMemory = 4 * kGiB;  // what its values take, estimated
constexpr uint64_t kMaxUntrustedPickleMemory = 512 * kMiB;
constexpr uint32_t kMaxPickleDepth = 256;           // containers inside containers
constexpr uint64_t kMaxPickleVisits = 100'000'000;  // values, those that several containers share counted for each
constexpr uint64_t kMaxTypeNameBytes = 4 * kKiB;
constexpr uint64_t kMaxTensorDimensions = 64;
// A tensor may have more elements than its storage (an expanded one), up to this many bytes.
constexpr uint64_t kMaxExpandedBytes = kGiB;
// All storages together may take this many times the file's size: several may refer to one record.
constexpr uint64_t kMaxStorageReuse = 8;

// Code.
constexpr uint64_t kMaxCodeBytes = 256 * kMiB;
constexpr uint64_t kMaxUntrustedCodeBytes = 16 * kMiB;
constexpr uint32_t kMaxExpressionDepth = 200;
constexpr uint32_t kMaxBlockDepth = 100;
// Functions of classes and modules that lead to each other.
constexpr uint64_t kMaxDefinitionChain = 1000;
// Types inside of a type, those of classes with all that their attributes have: libtorch walks through all of them for
// each value of it. The sum over all definitions, of each one's tokens times what its own type has times how deep.
constexpr uint64_t kMaxTypeVisits = 100'000'000'000;
constexpr uint64_t kMaxUntrustedTypeVisits = 500'000'000;
// Types in the type of one local value: tuples of tuples of the same value double each time.
constexpr uint64_t kMaxLocalTypes = 10'000;
// Blocks of a method in each other, with everything that it calls in place.
constexpr uint32_t kMaxInlinedDepth = 300;
// Nodes of a method with everything that it calls in place.
constexpr uint64_t kMaxInlinedNodes = 20'000'000;
constexpr uint64_t kMaxUntrustedInlinedNodes = 1'000'000;

// Programs of torch.export.
constexpr uint64_t kMaxProgramBytes = 128 * kMiB;
constexpr uint64_t kMaxUntrustedProgramBytes = 32 * kMiB;
constexpr uint64_t kMaxPytreeDepth = 100;  // containers of inputs and outputs in each other
constexpr uint64_t kMaxGraphDepth = 50;    // graphs in arguments of nodes of others

}  // namespace lta::archive
