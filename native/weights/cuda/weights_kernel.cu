// softmax(query · keyᵀ · scale + mask) in float32: the weights that a fused attention doesn't return, written once.
//
// A block has 64 rows of one head, each of its four warps 16 of them. It walks over the keys twice, 64 at a time, through
// shared memory: first for each row's maximum and sum, then, with the scores computed again, for the weights. Nothing as
// large as the result is read or held, so that its one write is what takes the time. Products run on tensor cores (`mma`,
// from compute capability 8.0 on). Elements of half types multiply exactly; float32 is split into two tf32 numbers, of whose
// four products the smallest is left out: relative errors of 2⁻²¹.
//
// Compiled by NVRTC at first use, without any header, with LTA_TYPE (32: float32, 16: float16, 17: bfloat16) and LTA_EMBED
// (columns of query and key, padded with zeros to a multiple of 16). Compiled for the CPU by the C++ tests, which define
// LTA_EMULATED and what stands below for CUDA.

#ifndef LTA_EMULATED
typedef unsigned int Bits;
typedef uint4 Vector;
#define LTA_KERNEL extern "C" __global__ void __launch_bounds__(kBlockThreads)
#define LTA_DEVICE static __device__ __forceinline__
#define LTA_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define LTA_BARRIER() __syncthreads()
#define LTA_UNROLL _Pragma("unroll")

LTA_DEVICE Bits bitsOf(float value) { return __float_as_uint(value); }
LTA_DEVICE float floatOf(Bits bits) { return __uint_as_float(bits); }
LTA_DEVICE float exchange(float value, int lanes) { return __shfl_xor_sync(0xffffffffu, value, lanes); }
LTA_DEVICE float negativeInfinity() { return __uint_as_float(0xff800000u); }

// sums += a · b, of a 16 × k, b k × 8 (by columns), sums 16 × 8; k is 8 of tf32 and 16 of half types.
LTA_DEVICE void multiply(float (&sums)[4], const Bits (&a)[4], const Bits (&b)[2]) {
#if LTA_TYPE == 32
#define LTA_MMA "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
#elif LTA_TYPE == 16
#define LTA_MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#else
#define LTA_MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#endif
  asm volatile(LTA_MMA " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

enum {
  kColumns = kBlockRows,  // of keys at once
  kTiles = kColumns / 8,
  kOfVector = kVectorBytes / (LTA_TYPE == 32 ? 4 : 2),
  // Four words more than a multiple of 32: the eight rows that a warp reads at once lie in different banks.
  kPitch = LTA_EMBED + kOfVector
};

#if LTA_TYPE == 32
typedef float Element;
enum { kDepth = 8 };
#else
typedef unsigned short Element;
enum { kDepth = 16 };
#endif

// Rows `first` … of a matrix of `count` rows to shared memory; zeros beyond it and beyond its columns.
LTA_DEVICE void load(Element* tile, const Element* rows, long long stride, long long first, long long count, int embed,
                     bool vectors) {
  if (vectors) {
    for (int i = threadIdx.x; i < kBlockRows * LTA_EMBED / kOfVector; i += kBlockThreads) {
      const int row = i / (LTA_EMBED / kOfVector);
      const int column = i % (LTA_EMBED / kOfVector) * kOfVector;
      const bool within = first + row < count && column < embed;
      const Vector zeros = {0, 0, 0, 0};
      *(Vector*)(tile + row * kPitch + column) =
          within ? *(const Vector*)(rows + (first + row) * stride + column) : zeros;
    }
    return;
  }
  for (int i = threadIdx.x; i < kBlockRows * LTA_EMBED; i += kBlockThreads) {
    const int row = i / LTA_EMBED;
    const int column = i % LTA_EMBED;
    const bool within = first + row < count && column < embed;
    tile[row * kPitch + column] = within ? rows[(first + row) * stride + column] : Element(0);
  }
}

#if LTA_TYPE == 32
// The part of a float that a tf32 holds.
LTA_DEVICE Bits upper(float value) { return bitsOf(value) & 0xffffe000u; }
LTA_DEVICE Bits lower(float value) { return bitsOf(value - floatOf(upper(value))); }
#else
LTA_DEVICE Bits pair(const Element* elements) { return *(const Bits*)elements; }
#endif

// The products of this warp's rows with a tile of keys. A thread has of each eight columns those at 2t and 2t + 1 of the
// rows g and g + 8, where g is its group of four lanes and t its place in it.
LTA_DEVICE void scoresOf(float (&scores)[kTiles][4], const Element* query, const Element* key) {
  const int lane = threadIdx.x % 32;
  const int group = lane / 4;
  const int place = lane % 4;
  LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
    LTA_UNROLL for (int i = 0; i < 4; ++i) scores[tile][i] = 0;
  }
  const Element* const upperRow = query + (threadIdx.x / 32 * 16 + group) * kPitch;
  const Element* const lowerRow = upperRow + 8 * kPitch;
  for (int step = 0; step < LTA_EMBED; step += kDepth) {
#if LTA_TYPE == 32
    const float a[4] = {upperRow[step + place], lowerRow[step + place], upperRow[step + place + 4],
                        lowerRow[step + place + 4]};
    const Bits aUpper[4] = {upper(a[0]), upper(a[1]), upper(a[2]), upper(a[3])};
    const Bits aLower[4] = {lower(a[0]), lower(a[1]), lower(a[2]), lower(a[3])};
    LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
      const Element* const row = key + (tile * 8 + group) * kPitch + step + place;
      const Bits bUpper[2] = {upper(row[0]), upper(row[4])};
      const Bits bLower[2] = {lower(row[0]), lower(row[4])};
      multiply(scores[tile], aLower, bUpper);
      multiply(scores[tile], aUpper, bLower);
      multiply(scores[tile], aUpper, bUpper);
    }
#else
    const int at = step + 2 * place;
    const Bits a[4] = {pair(upperRow + at), pair(lowerRow + at), pair(upperRow + at + 8), pair(lowerRow + at + 8)};
    LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
      const Element* const row = key + (tile * 8 + group) * kPitch + at;
      const Bits b[2] = {pair(row), pair(row + 8)};
      multiply(scores[tile], a, b);
    }
#endif
  }
}

// What a row is, beside its scores.
struct Row {
  long long index;
  long long position;  // the last key that a causal row sees
  const unsigned char* bools;
  const float* floats;
  bool exists;
};

LTA_DEVICE Row rowAt(const LaunchArguments& launch, long long index, long long batch, long long head) {
  Row row = {index, 0, nullptr, nullptr, index < launch.queries};
  if (!row.exists) return row;
  row.position = launch.positions ? launch.positions[index] : index;
  const long long offset =
      batch * launch.maskStrides[0] + head * launch.maskStrides[1] + index * launch.maskStrides[2];
  if (launch.maskKind == 1) row.bools = (const unsigned char*)launch.mask + offset;
  if (launch.maskKind == 2) row.floats = (const float*)launch.mask + offset;
  return row;
}

// A score as the exponent of a power of two; minus infinity where the key isn't seen.
LTA_DEVICE float exponent(const LaunchArguments& launch, const Row& row, long long column, float product) {
  const float log2e = 1.4426950408889634f;
  if (!row.exists || column >= launch.keys) return negativeInfinity();
  if (launch.causal && column > row.position) return negativeInfinity();
  float score = product * launch.scale * log2e;
  if (row.bools && !row.bools[column * launch.maskStrides[3]]) return negativeInfinity();
  if (row.floats) score += row.floats[column * launch.maskStrides[3]] * log2e;
  return score;
}

// The maximum and the sum of powers of two of the scores of a row so far.
struct Sum {
  float maximum;
  float total;
};

// 0 where there was nothing before, though ∞ − ∞ is none.
LTA_DEVICE float rescaled(float total, float from, float to) { return from == to ? total : total * exp2f(from - to); }

LTA_DEVICE void add(Sum& sum, const float (&scores)[kTiles][4], int first) {
  float maximum = sum.maximum;
  LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
    maximum = fmaxf(maximum, fmaxf(scores[tile][first], scores[tile][first + 1]));
  }
  float total = rescaled(sum.total, sum.maximum, maximum);
  const bool nothing = maximum == negativeInfinity();
  LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
    LTA_UNROLL for (int i = 0; i < 2; ++i) {
      const float score = scores[tile][first + i];
      // Minus infinity less itself is no number; what is none already has to stay so.
      if (!nothing || score != score) total += exp2f(score - maximum);
    }
  }
  sum.maximum = maximum;
  sum.total = total;
}

// The same of the whole row: of the four threads that share it.
LTA_DEVICE Sum together(Sum sum) {
  LTA_UNROLL for (int lanes = 1; lanes <= 2; lanes *= 2) {
    const Sum other = {exchange(sum.maximum, lanes), exchange(sum.total, lanes)};
    const float maximum = fmaxf(sum.maximum, other.maximum);
    sum.total = rescaled(sum.total, sum.maximum, maximum) + rescaled(other.total, other.maximum, maximum);
    sum.maximum = maximum;
  }
  return sum;
}

LTA_KERNEL attention_weights(const LaunchArguments launch) {
  LTA_SHARED(memory);
  Element* const query = (Element*)memory;
  Element* const key = query + kBlockRows * kPitch;
  const long long blocks = (launch.queries + kBlockRows - 1) / kBlockRows;
  const long long plane = blockIdx.x / blocks;
  const long long firstRow = blockIdx.x % blocks * kBlockRows;
  const long long batch = plane / launch.heads;
  const long long head = plane % launch.heads;
  const Element* const keys = (const Element*)launch.key + batch * launch.keyStrides[0] +
                              head / launch.group * launch.keyStrides[1];
  load(query, (const Element*)launch.query + batch * launch.queryStrides[0] + head * launch.queryStrides[1],
       launch.queryStrides[2], firstRow, launch.queries, launch.embed, launch.vectors);

  const int lane = threadIdx.x % 32;
  const long long ownRow = firstRow + threadIdx.x / 32 * 16 + lane / 4;
  const Row rows[2] = {rowAt(launch, ownRow, batch, head), rowAt(launch, ownRow + 8, batch, head)};
  Sum sums[2] = {{negativeInfinity(), 0}, {negativeInfinity(), 0}};
  float scores[kTiles][4] = {};
  for (int walk = 0; walk < 2; ++walk) {
    for (long long first = 0; first < launch.keys; first += kColumns) {
      // No row of the block sees these keys, nor any behind them.
      const bool beyond = launch.causal && !launch.positions && first >= firstRow + kBlockRows;
      if (beyond && walk == 0) break;
      if (!beyond) {
        LTA_BARRIER();
        load(key, keys, launch.keyStrides[2], first, launch.keys, launch.embed, launch.vectors);
        LTA_BARRIER();
        scoresOf(scores, query, key);
      }
      LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
        LTA_UNROLL for (int i = 0; i < 4; ++i) {
          const long long column = first + tile * 8 + lane % 4 * 2 + i % 2;
          scores[tile][i] = exponent(launch, rows[i / 2], column, scores[tile][i]);
        }
      }
      if (walk == 0) {
        add(sums[0], scores, 0);
        add(sums[1], scores, 2);
        continue;
      }
      LTA_UNROLL for (int tile = 0; tile < kTiles; ++tile) {
        LTA_UNROLL for (int i = 0; i < 4; ++i) {
          const long long column = first + tile * 8 + lane % 4 * 2 + i % 2;
          const Row& row = rows[i / 2];
          if (!row.exists || column >= launch.keys) continue;
          launch.weights[(plane * launch.queries + row.index) * launch.keys + column] =
              exp2f(scores[tile][i] - sums[i / 2].maximum) * sums[i / 2].total;
        }
      }
    }
    if (walk == 1) break;
    LTA_UNROLL for (int i = 0; i < 2; ++i) {
      sums[i] = together(sums[i]);
      // From here on the reciprocal. Rows that see no key are zero, as in fused kernels.
      const bool blind = sums[i].maximum == negativeInfinity() && sums[i].total == 0 && (launch.mask || launch.causal);
      sums[i].total = blind ? 0 : 1 / sums[i].total;
      if (blind) sums[i].maximum = 0;
    }
  }
}
