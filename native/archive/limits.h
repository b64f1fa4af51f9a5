// Limits on what an archive may make the loader do. Those for every archive are far above the needs of any checkpoint;
// those named Untrusted apply in addition to archives from untrusted sources.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lta::archive {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kGiB = 1024 * kMiB;

// The zip directory.
constexpr uint64_t kMaxRecords = 1'000'000;
constexpr uint64_t kMaxDirectoryBytes = 512 * kMiB;
constexpr uint64_t kMaxNameBytes = 4 * kKiB;
// How many times larger a record may get by decompression; records below kRatioExemptBytes are exempt.
constexpr uint64_t kMaxCompressionRatio = 256;
constexpr uint64_t kRatioExemptBytes = kMiB;

// Pickles.
constexpr uint64_t kMaxPickleBytes = kGiB;
constexpr uint64_t kMaxPickleMemory = 4 * kGiB;  // estimated size of its values
constexpr uint64_t kMaxUntrustedPickleMemory = 512 * kMiB;
constexpr uint32_t kMaxPickleDepth = 256;           // nested containers
constexpr uint64_t kMaxPickleVisits = 100'000'000;  // values, shared ones counted for each container
constexpr uint64_t kMaxTypeNameBytes = 4 * kKiB;
constexpr uint64_t kMaxTensorDimensions = 64;
// An expanded tensor may have more elements than its storage, up to this many bytes.
constexpr uint64_t kMaxExpandedBytes = kGiB;
// All storages together may take this many times the size of the file: several may share a record.
constexpr uint64_t kMaxStorageReuse = 8;

// Code.
constexpr uint64_t kMaxCodeBytes = 256 * kMiB;
constexpr uint64_t kMaxUntrustedCodeBytes = 16 * kMiB;
constexpr uint32_t kMaxExpressionDepth = 200;
constexpr uint32_t kMaxBlockDepth = 100;
// Definitions that refer to each other in a chain.
constexpr uint64_t kMaxDefinitionChain = 1000;
// libtorch walks all types nested in a type, attributes of classes included, for each value of it. Sum over all
// definitions of tokens × types nested in its own type × their depth.
constexpr uint64_t kMaxTypeVisits = 100'000'000'000;
constexpr uint64_t kMaxUntrustedTypeVisits = 500'000'000;
// Types nested in the type of one local value: a tuple of a value twice doubles them each time.
constexpr uint64_t kMaxLocalTypes = 10'000;
// Depth of nested blocks of a method after inlining.
constexpr uint32_t kMaxInlinedDepth = 300;
// Nodes of a method after inlining.
constexpr uint64_t kMaxInlinedNodes = 20'000'000;
constexpr uint64_t kMaxUntrustedInlinedNodes = 1'000'000;

// Programs of torch.export.
constexpr uint64_t kMaxProgramBytes = 128 * kMiB;
constexpr uint64_t kMaxUntrustedProgramBytes = 32 * kMiB;
constexpr uint64_t kMaxPytreeDepth = 100;  // containers of inputs and outputs in each other
constexpr uint64_t kMaxGraphDepth = 50;    // graphs in arguments of nodes of others

}  // namespace lta::archive
