#include "exported/argument_reader.h"

#include <utility>

#include "exported/schema.h"

namespace lta::exported {
namespace {

using c10::IValue;
using Kind = Argument::Kind;

// A symbolic number: the name of a value, or a constant.
Argument::Item readItem(const Json& json, const ValueNames& names) {
  const auto [kind, value] = json.only();
  if (kind == "as_name") return {names.slotOf(value.text()), {}};
  if (kind == "as_int") return {kNoSlot, value.integer()};
  if (kind == "as_float") return {kNoSlot, value.number()};
  if (kind == "as_bool") return {kNoSlot, value.boolean()};
  throw broken("it has a number of the kind " + shown(kind));
}

Argument readItems(Kind kind, const Json& json, const ValueNames& names) {
  Argument argument;
  argument.kind = kind;
  for (const auto& each : json.elements()) argument.items.push_back(readItem(each, names));
  return argument;
}

Argument readTensors(Kind kind, const Json& json, const ValueNames& names) {
  Argument argument;
  argument.kind = kind;
  for (const auto& each : json.elements()) {
    if (kind == Kind::Tensors) {
      argument.items.push_back({names.slotOf(each.at("name").text()), {}});
      continue;
    }
    const auto [form, value] = each.only();
    argument.items.push_back({form == "as_tensor" ? names.slotOf(value.at("name").text()) : kNoSlot, {}});
  }
  return argument;
}

template <typename Element, typename Read>
IValue readList(const Json& json, Read read) {
  c10::List<Element> list;
  for (const auto& each : json.elements()) list.push_back(read(each));
  return list;
}

IValue readIntegers(const Json& json) {
  return readList<int64_t>(json, [](const Json& each) { return each.integer(); });
}

IValue readFloats(const Json& json) {
  return readList<double>(json, [](const Json& each) { return each.number(); });
}

IValue readComplex(const Json& json) {
  return c10::complex<double>(json.at("real").number(), json.at("imag").number());
}

using ReadConstant = IValue (*)(const Json& json);

// Kinds that are constants.
constexpr std::pair<std::string_view, ReadConstant> kConstants[] = {
    {"as_none", [](const Json&) -> IValue { return {}; }},
    {"as_int", [](const Json& json) -> IValue { return json.integer(); }},
    {"as_float", [](const Json& json) -> IValue { return json.number(); }},
    {"as_bool", [](const Json& json) -> IValue { return json.boolean(); }},
    {"as_string", [](const Json& json) -> IValue { return json.string(); }},
    {"as_complex", readComplex},
    {"as_scalar_type", [](const Json& json) -> IValue { return static_cast<int64_t>(scalarType(json)); }},
    {"as_layout", [](const Json& json) -> IValue { return static_cast<int64_t>(layout(json)); }},
    {"as_memory_format", [](const Json& json) -> IValue { return static_cast<int64_t>(memoryFormat(json)); }},
    {"as_device", [](const Json& json) -> IValue { return device(json); }},
    {"as_ints", readIntegers},
    {"as_floats", readFloats},
    {"as_bools",
     [](const Json& json) { return readList<bool>(json, [](const Json& each) { return each.boolean(); }); }},
    {"as_strings",
     [](const Json& json) { return readList<std::string>(json, [](const Json& each) { return each.string(); }); }},
    {"as_int_lists",
     [](const Json& json) {
       return readList<c10::List<int64_t>>(json, [](const Json& each) { return readIntegers(each).toIntList(); });
     }},
    {"as_float_lists",
     [](const Json& json) {
       return readList<c10::List<double>>(json, [](const Json& each) { return readFloats(each).toDoubleList(); });
     }},
};

}  // namespace

// The name of what an argument refers to; empty for a constant.
std::string nameIn(const Json& argument) {
  const auto [kind, value] = argument.only();
  if (!value.isObject()) return {};
  if (const auto name = value.find("name")) return name->string();
  if (const auto name = value.find("as_name")) return name->string();
  return {};
}

// What a node is called whose first value this is.
std::string nameOfValue(const Json& output) {
  const auto [kind, value] = output.only();
  if (!value.isArray()) return nameIn(output);
  const auto elements = value.elements();
  return elements.empty() ? std::string() : nameIn(elements.front());
}

Argument constantArgument(IValue value) {
  Argument argument;
  argument.constant = std::move(value);
  return argument;
}

Argument readArgument(const Json& json, const ValueNames& names, const std::function<size_t(const Json&)>& readGraph) {
  const auto [kind, value] = json.only();
  for (const auto& [name, read] : kConstants) {
    if (kind == name) return constantArgument(read(value));
  }
  if (kind == "as_tensor") return slotArgument(names.slotOf(value.at("name").text()));
  if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") {
    auto item = readItem(value, names);
    return item.slot == kNoSlot ? constantArgument(std::move(item.constant)) : slotArgument(item.slot);
  }
  if (kind == "as_sym_ints") return readItems(Kind::Integers, value, names);
  if (kind == "as_sym_floats") return readItems(Kind::Floats, value, names);
  if (kind == "as_sym_bools") return readItems(Kind::Booleans, value, names);
  if (kind == "as_tensors") return readTensors(Kind::Tensors, value, names);
  if (kind == "as_optional_tensors") return readTensors(Kind::OptionalTensors, value, names);
  if (kind == "as_optional_tensor") {
    const auto [form, inner] = value.only();
    return form == "as_tensor" ? slotArgument(names.slotOf(inner.at("name").text())) : constantArgument({});
  }
  if (kind == "as_graph") {
    Argument argument;
    argument.kind = Kind::Graph;
    argument.graph = readGraph(value);
    return argument;
  }
  if (kind == "as_string_to_argument") {  // hints to compilers
    for (const auto& [key, each] : value.members()) {
      if (readArgument(each, names, readGraph).kind != Kind::Constant) {
        throw Error("ERR_UNSUPPORTED_FILE",
                    "it has a dictionary with values of the graph for an argument, which isn't served");
      }
    }
    return constantArgument({});
  }
  throw Error("ERR_UNSUPPORTED_FILE", "it has an argument of the kind " + shown(kind) + ", which isn't served");
}

}  // namespace lta::exported
