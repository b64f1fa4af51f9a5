// A minimal test framework: named tests, checks that report file, line and expression. Knows nothing of the project but
// lta::Error.
#pragma once

#include <algorithm>
#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

struct Test {
  std::string file;
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(std::string file, std::string name, std::function<void()> body) {
    tests().push_back({std::move(file), std::move(name), std::move(body)});
  }
};

inline void that(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  std::ostringstream message;
  message << file << ":" << line << ": " << what;
  throw std::runtime_error(message.str());
}

// Runs the tests whose name or file contains one of these words, or all; prints failures, then the counts. Running no
// test is a failure.
inline int run(const std::vector<std::string>& words) {
  size_t passed = 0;
  int failed = 0;
  for (const auto& test : tests()) {
    const auto named = [&](const std::string& word) {
      return test.file.find(word) != std::string::npos || test.name.find(word) != std::string::npos;
    };
    if (!words.empty() && std::none_of(words.begin(), words.end(), named)) continue;
    try {
      test.body();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::cout << "failed: " << test.name << " (" << test.file << ")\n  " << error.what() << "\n";
    }
  }
  if (passed + failed == 0) {
    std::cout << "no test of that name" << std::endl;
    return 1;
  }
  std::cout << passed << " passed, " << failed << " failed" << std::endl;
  return failed ? 1 : 0;
}

}  // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(name)                                                                                    \
  static void CHECK_JOIN(test, __LINE__)();                                                           \
  static const check::Register CHECK_JOIN(reg, __LINE__)(__FILE__, name, CHECK_JOIN(test, __LINE__)); \
  static void CHECK_JOIN(test, __LINE__)()
#define EXPECT(condition) check::that(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
// Expects an expression to throw an lta::Error with this code.
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
