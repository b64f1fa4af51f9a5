#include "exported/schema.h"

namespace lta::exported {
namespace {

Error unknown(const char* what, int64_t number) {
  return Error("ERR_UNSUPPORTED_FILE",
               std::string("it has the ") + what + " " + std::to_string(number) + ", which isn't known");
}

}  // namespace

at::ScalarType scalarType(const Json& json) {
  using Type = at::ScalarType;
  switch (json.integer()) {
    case 1:
      return Type::Byte;
    case 2:
      return Type::Char;
    case 3:
      return Type::Short;
    case 4:
      return Type::Int;
    case 5:
      return Type::Long;
    case 6:
      return Type::Half;
    case 7:
      return Type::Float;
    case 8:
      return Type::Double;
    case 9:
      return Type::ComplexHalf;
    case 10:
      return Type::ComplexFloat;
    case 11:
      return Type::ComplexDouble;
    case 12:
      return Type::Bool;
    case 13:
      return Type::BFloat16;
    case 28:
      return Type::UInt16;
    case 29:
      return Type::Float8_e4m3fn;
    case 30:
      return Type::Float8_e5m2;
    case 31:
      return Type::Float8_e4m3fnuz;
    case 32:
      return Type::Float8_e5m2fnuz;
    case 33:
      return Type::Float8_e8m0fnu;
    case 34:
      return Type::UInt32;
    case 35:
      return Type::UInt64;
    default:
      throw unknown("dtype", json.integer());
  }
}

c10::Layout layout(const Json& json) {
  using Layout = c10::Layout;
  switch (json.integer()) {
    case 1:
      return Layout::Sparse;
    case 2:
      return Layout::SparseCsr;
    case 3:
      return Layout::SparseCsc;
    case 4:
      return Layout::SparseBsr;
    case 5:
      return Layout::SparseBsc;
    case 6:
      return Layout::Mkldnn;
    case 7:
      return Layout::Strided;
    default:
      throw unknown("layout", json.integer());
  }
}

c10::MemoryFormat memoryFormat(const Json& json) {
  using Format = c10::MemoryFormat;
  switch (json.integer()) {
    case 1:
      return Format::Contiguous;
    case 2:
      return Format::ChannelsLast;
    case 3:
      return Format::ChannelsLast3d;
    case 4:
      return Format::Preserve;
    default:
      throw unknown("memory format", json.integer());
  }
}

c10::Device device(const Json& json) {
  // As the format has it, an index from 0 to what c10::DeviceIndex holds.
  constexpr int64_t kMostIndex = 127;
  const auto type = json.at("type").string();
  const auto index = json.find("index");
  const int64_t number = index ? index->integer() : -1;
  if (type.find(':') != std::string::npos || number < -1 || number > kMostIndex) {
    throw broken("it has a device " + shown(type) + " " + std::to_string(number) + ", which is none");
  }
  try {
    return c10::Device(c10::Device(type).type(), static_cast<c10::DeviceIndex>(number));
  } catch (const c10::Error&) {
    throw broken("it has a device " + shown(type) + ", which is none");
  }
}

c10::OperatorName operatorName(std::string_view target) {
  const auto rest = target.substr(kOperators.size());
  const auto space = rest.find('.');
  const auto overload = rest.rfind('.');
  if (space == std::string_view::npos || overload <= space) throw broken("it has an operator " + shown(target));
  auto variant = std::string(rest.substr(overload + 1));
  if (variant == "default") variant.clear();
  return {std::string(rest.substr(0, space)) + "::" + std::string(rest.substr(space + 1, overload - space - 1)),
          std::move(variant)};
}

}  // namespace lta::exported
