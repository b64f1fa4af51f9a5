#pragma once

#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

// The smallest test framework that serves: named tests, checks that say where and what.
namespace check {

struct Test {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(std::string name, std::function<void()> body) { tests().push_back({std::move(name), std::move(body)}); }
};

inline void that(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  std::ostringstream message;
  message << file << ":" << line << ": " << what;
  throw std::runtime_error(message.str());
}

// Runs all tests and prints what failed, then how many did.
inline int run() {
  int failed = 0;
  for (const auto& test : tests()) {
    try {
      test.body();
    } catch (const std::exception& error) {
      ++failed;
      std::cout << "failed: " << test.name << "\n  " << error.what() << "\n";
    }
  }
  std::cout << tests().size() - static_cast<size_t>(failed) << " passed, " << failed << " failed" << std::endl;
  return failed ? 1 : 0;
}

}  // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(name)                                                                          \
  static void CHECK_JOIN(test, __LINE__)();                                                 \
  static const check::Register CHECK_JOIN(reg, __LINE__)(name, CHECK_JOIN(test, __LINE__)); \
  static void CHECK_JOIN(test, __LINE__)()
#define EXPECT(condition) check::that(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
// Whether an expression throws an lta::Error with this code.
#define EXPECT_ERROR(expression, expected)                                                                   \
  do {                                                                                                       \
    std::string received = "nothing";                                                                        \
    try {                                                                                                    \
      (void)(expression);                                                                                    \
    } catch (const lta::Error& error) {                                                                      \
      received = error.code();                                                                               \
    }                                                                                                        \
    check::that(received == (expected), (std::string(#expression) + " threw " + received).c_str(), __FILE__, \
                __LINE__);                                                                                   \
  } while (false)
