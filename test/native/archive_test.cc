#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "archive/byte_source.h"
#include "archive/crc32.h"
#include "archive/limits.h"
#include "archive/pickle.h"
#include "archive/zip.h"
#include "check.h"
#include "fixtures.h"
#include "runtime/error.h"
#include "script/load.h"

namespace {

using lta::archive::Pickle;
using lta::archive::Zip;

const std::string kLoadError = "ERR_MODEL_LOAD";

std::string fixture(const char* name) { return fixtures::bytes(std::string("models/") + name); }

// Parses a pickle, given without its protocol header.
Pickle pickle(const std::string& bytes) {
  static std::string kept;
  kept = "\x80\x02" + bytes;
  return Pickle(kept, {lta::archive::kMiB, /*keepLists=*/true});
}

}  // namespace

TEST("checksums equal known ones") {
  EXPECT(lta::archive::crc32("123456789", 9) == 0xCBF43926u);
  EXPECT(lta::archive::crc32("", 0) == 0);
  // Any alignment, and any remainder of the last step.
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  EXPECT(lta::archive::crc32(text.data(), text.size()) == 0x4C2750BDu);
  // Incrementally.
  EXPECT(lta::archive::crc32(text.data() + 11, 15, lta::archive::crc32(text.data(), 11)) == 0x4C2750BDu);
}

TEST("records of an archive match their checksums, compressed or not") {
  const Zip zip(lta::archive::fromMemory(fixture("encoder_relu.pt")));
  EXPECT(!zip.records().empty());
  bool deflated = false;
  for (const auto& record : zip.records()) {
    EXPECT(zip.read(record, /*verify=*/true).size() == record.size);
    zip.verify(record);
    deflated = deflated || record.deflated;
  }
  EXPECT(deflated);
  EXPECT(zip.find("nowhere") == nullptr);
}

TEST("an archive truncated anywhere is refused") {
  const auto bytes = fixture("box_expectation_script.pt");
  for (size_t size = 0; size < bytes.size(); size += 97) {
    EXPECT_ERROR(Zip(lta::archive::fromMemory(bytes.substr(0, size))), kLoadError);
  }
}

TEST("reads outside of a source are refused") {
  const auto source = lta::archive::fromMemory("0123");
  char into[4];
  source->read(1, into, 3);
  EXPECT(std::memcmp(into, "123", 3) == 0);
  EXPECT_ERROR(source->read(2, into, 3), kLoadError);
  EXPECT_ERROR(source->read(UINT64_MAX, into, 3), kLoadError);
  EXPECT_ERROR(lta::archive::openFile(std::string("a\0b", 3)), std::string("ERR_INVALID_ARGUMENT"));
  EXPECT_ERROR(lta::archive::openFile("/dev/null"), kLoadError);
  EXPECT_ERROR(lta::archive::openFile(LTA_FIXTURES), kLoadError);
}

TEST("a file that is truncated while it is read is an error") {
  const auto path = std::filesystem::temp_directory_path() / "lta_shrinking.bin";
  std::ofstream(path, std::ios::binary) << std::string(100, 'x');
  const auto source = lta::archive::openFile(path.string());
  EXPECT(source->size() == 100);
  std::filesystem::resize_file(path, 10);
  char into[100];
  EXPECT_ERROR(source->read(0, into, 100), kLoadError);
  std::filesystem::remove(path);
}

TEST("the values of a pickle are accessible") {
  const std::string zeros(3, '\0');
  const auto found = pickle("(K\x01X\x02" + zeros + "hi](K\x02K\x03" + "et.");
  const auto& parts = found.tuple(found.root());
  EXPECT(parts.size() == 3 && parts[0].number == 1 && found.string(parts[1]) == "hi");
  EXPECT(found.list(parts[2]).size() == 2 && found.list(parts[2])[1].number == 3);
}

TEST("a pickle can't read past its end or underflow its stack") {
  for (const char* bytes : {"",        ".",      "0.",     "N",       "NN.",
                            "(.",      "(N.",    "t.",     "(t0.",    "e.",
                            "]e.",     "](Nt.",  "](NNu.", "}(Nu.",   "}(]Nu.",
                            "Nq\x01.", "h\x7f.", "jaaaa.", "Nraaaa.", "Xaaaaa.",
                            "K",       "Jaa",    "G123",   "c.",      "cos\nsystem\n.",
                            "c\n\n.",  "Q.",     ")Q.",    "R.",      "NR.",
                            "NNR.",    "b.",     "\x81.",  "N\x81.",  "\x87.",
                            "NN\x87.", "\x86.",  "\x85.",  "s.",      "}s.",
                            "}Ns.",    "a.",     "]a.",    "N]a."}) {
    EXPECT_ERROR(pickle(bytes), kLoadError);
  }
}

TEST("no pickle of random opcodes is read past its end") {
  // Opcodes, and bytes that are operands of some: most pickles get a few steps far.
  static constexpr char kOperations[] =
      "()]}t\x85\x86\x87"
      "eausNK\x01\x02\x88\x89q\x00h\x00M.bRQ\x81";
  const std::string operations(kOperations, sizeof kOperations - 1);
  std::mt19937 random(7);  // NOLINT(bugprone-random-generator-seed): the same cases in each run
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes;
    for (size_t i = random() % 24; i-- > 0;) bytes += operations[random() % operations.size()];
    try {
      pickle(bytes + ".");
    } catch (const lta::Error& error) {
      EXPECT(error.code() == kLoadError);
    }
  }
}

TEST("an archive mutated anywhere loads or is a load error") {
  const auto good = fixture("box_expectation_script.pt");
  std::mt19937 random(11);  // NOLINT(bugprone-random-generator-seed): the same cases in each run
  for (int round = 0; round < 300; ++round) {
    auto bytes = good;
    for (size_t flips = 1 + random() % 4; flips-- > 0;) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    }
    try {
      const auto model = lta::script::loadBytes(bytes, {});
      for (const auto& parameter : model->parameters()) {
        // Every element of a tensor must be readable.
        (void)parameter.tensor.to(at::kDouble).sum().item<double>();
      }
    } catch (const lta::Error& error) {
      EXPECT(error.code() == kLoadError);
    }
  }
}
