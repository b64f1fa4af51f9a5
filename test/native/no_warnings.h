// libtorch's warnings left out, while this is there: of nested and quantized tensors, which it calls prototypes or
// deprecated.
#pragma once

#include <c10/util/Exception.h>

class NoWarnings : public c10::WarningHandler {
 public:
  NoWarnings() : guard_(this) {}
  void process(const c10::Warning& /*warning*/) override {}

 private:
  c10::WarningUtils::WarningHandlerGuard guard_;
};
