#include "capture/flow/flow.h"

#include <memory>
#include <utility>

namespace lta::flow {
void Flow::decide(const Note& note, bool linear) {
  if (note.context->decide) decided_.emplace_back(std::exchange(note.context->decide, nullptr), linear);
}

void Flow::decideAll() {
  for (const auto& weak : contexts_) {
    const auto context = weak.lock();
    if (context && context->decide) decided_.emplace_back(std::exchange(context->decide, nullptr), false);
  }
  contexts_.clear();
}

void Flow::watchContext(const at::Tensor& output, int64_t rows, Decide decide) {
  auto context = std::make_shared<Context>();
  context->decide = std::move(decide);
  contexts_.push_back(context);
  auto& note = noteOf(output);
  note.context = std::move(context);
  note.contextRow = output.stride(rows);
}

}  // namespace lta::flow
