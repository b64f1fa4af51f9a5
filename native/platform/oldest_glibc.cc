// Binaries that are built on a new system load on those that libtorch itself still serves (glibc 2.28): references to
// newer versions of symbols than those have are linked (--wrap, see CMakeLists.txt) to what is here instead, which asks
// for the versions of old. These are the same functions, in another library or with another errno.

#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <string>

// A function under its name that jumps to an old one, whatever its arguments.
#define LTA_INSTEAD(name, old, version)             \
  __asm__(                                          \
      ".pushsection .text\n"                        \
      ".symver lta_old_" #name "," #old "@" version \
      "\n"                                          \
      ".globl __wrap_" #name                        \
      "\n"                                          \
      ".type __wrap_" #name                         \
      ",@function\n"                                \
      "__wrap_" #name ":\n  jmp *lta_old_" #name    \
      "@GOTPCREL(%rip)\n"                           \
      ".size __wrap_" #name ",.-__wrap_" #name "\n.popsection")

// One that jumps to its old version.
#define LTA_OLDEST(name, version)        \
  __asm__(".hidden __wrap_" #name "\n"); \
  LTA_INSTEAD(name, name, version)

// Moved into libc.so.6 by glibc 2.34.
LTA_OLDEST(dladdr, "GLIBC_2.2.5");
LTA_OLDEST(dlclose, "GLIBC_2.2.5");
LTA_OLDEST(dlerror, "GLIBC_2.2.5");
LTA_OLDEST(dlopen, "GLIBC_2.2.5");
LTA_OLDEST(dlsym, "GLIBC_2.2.5");
LTA_OLDEST(pthread_attr_setstacksize, "GLIBC_2.2.5");
LTA_OLDEST(pthread_create, "GLIBC_2.2.5");
LTA_OLDEST(pthread_getattr_default_np, "GLIBC_2.18");
LTA_OLDEST(pthread_join, "GLIBC_2.2.5");
LTA_OLDEST(pthread_mutex_trylock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_once, "GLIBC_2.2.5");
LTA_OLDEST(pthread_rwlock_rdlock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_rwlock_tryrdlock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_rwlock_trywrlock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_rwlock_unlock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_rwlock_wrlock, "GLIBC_2.2.5");
LTA_OLDEST(pthread_setattr_default_np, "GLIBC_2.18");
// Without an errno of their own since glibc 2.29.
LTA_OLDEST(exp, "GLIBC_2.2.5");
LTA_OLDEST(log, "GLIBC_2.2.5");
LTA_OLDEST(log2, "GLIBC_2.2.5");
LTA_OLDEST(pow, "GLIBC_2.2.5");
// std::condition_variable::wait, which is noexcept since GCC 12.
LTA_OLDEST(_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE, "GLIBCXX_3.4.11");
// std::stringbuf::str, which C++20 has for lvalues and for rvalues. Not hidden: libtorch refers to it as well, and the
// linker takes that for a reference to what it puts in its place.
LTA_INSTEAD(_ZNKRSt7__cxx1115basic_stringbufIcSt11char_traitsIcESaIcEE3strEv,
            _ZNKSt7__cxx1115basic_stringbufIcSt11char_traitsIcESaIcEE3strEv, "GLIBCXX_3.4.21");

// The linker makes the names of what --wrap puts in a symbol's place.
// NOLINTBEGIN(bugprone-reserved-identifier)

extern "C" {

// libstdc++ asks (glibc 2.32) whether reference counts need no atomic operations: they do.
__attribute__((visibility("hidden"))) extern const char __wrap___libc_single_threaded = 0;

// Inline functions of the headers before glibc 2.33, by these.
int lta_old_xstat(int version, const char* path, struct stat* status);
int lta_old_fxstat(int version, int descriptor, struct stat* status);
__asm__(".symver lta_old_xstat,__xstat@GLIBC_2.2.5");
__asm__(".symver lta_old_fxstat,__fxstat@GLIBC_2.2.5");

namespace {
constexpr int kStatVersion = 1;  // _STAT_VER of x86-64
}

__attribute__((visibility("hidden"))) int __wrap_stat(const char* path, struct stat* status) {
  return lta_old_xstat(kStatVersion, path, status);
}

__attribute__((visibility("hidden"))) int __wrap_fstat(int descriptor, struct stat* status) {
  return lta_old_fxstat(kStatVersion, descriptor, status);
}

// Since glibc 2.30: where it lacks, the system's clock takes the place of the steady one, in waits that are short.
__attribute__((visibility("hidden"))) int __wrap_pthread_cond_clockwait(pthread_cond_t* condition,
                                                                        pthread_mutex_t* mutex, clockid_t clock,
                                                                        const struct timespec* until) {
  using Wait = int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const struct timespec*);
  static const auto wait = reinterpret_cast<Wait>(dlsym(RTLD_DEFAULT, "pthread_cond_clockwait"));
  if (wait) return wait(condition, mutex, clock, until);
  constexpr long kSecond = 1000000000;
  struct timespec now{};
  struct timespec deadline{};
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += until->tv_sec - now.tv_sec;
  deadline.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (deadline.tv_nsec < 0 || deadline.tv_nsec >= kSecond) {
    const long carry = deadline.tv_nsec < 0 ? -1 : 1;
    deadline.tv_sec += carry;
    deadline.tv_nsec -= carry * kSecond;
  }
  return pthread_cond_timedwait(condition, mutex, &deadline);
}

}  // extern "C"

namespace {

// std::from_chars of a double, which libstdc++ has since GCC 11: of decimal numbers, the only ones that are read here.
std::from_chars_result decimal(const char* first, const char* last, double& value) {
  const std::string text(first, std::find_if(first, last, [](char c) {
                           return (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-';
                         }));
  if (text.empty() || text.front() == '+') return {first, std::errc::invalid_argument};
  static const auto plain = newlocale(LC_ALL_MASK, "C", nullptr);
  char* end = nullptr;
  errno = 0;
  const double read = strtod_l(text.c_str(), &end, plain);
  if (end == text.c_str()) return {first, std::errc::invalid_argument};
  const char* const after = first + (end - text.c_str());
  // Subnormal numbers are numbers.
  if (errno == ERANGE && (read == 0 || std::isinf(read))) return {after, std::errc::result_out_of_range};
  value = read;
  return {after, std::errc()};
}

}  // namespace

extern "C" __attribute__((visibility("hidden"))) std::from_chars_result __wrap__ZSt10from_charsPKcS0_RdSt12chars_format(
    const char* first, const char* last, double& value, std::chars_format) {
  return decimal(first, last, value);
}

// NOLINTEND(bugprone-reserved-identifier)
