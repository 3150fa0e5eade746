// SPDX-License-Identifier: GPL-3.0-or-later
// Errors are values: a function that can fail returns a Result. The function that knows the facts
// writes the sentence in its Error.
#pragma once

#include <cstring>
#include <string>
#include <utility>
#include <variant>

#include "common/text.h"

namespace mandos {

/// Why something failed, as a sentence for the administrator, without a final full stop.
struct Error {
  std::string text;
};

/// A value, or the reason why there is none. Dereference only after testing.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return content_.index() == 0; }
  T& operator*() & { return std::get<0>(content_); }
  const T& operator*() const& { return std::get<0>(content_); }
  T&& operator*() && { return std::get<0>(std::move(content_)); }
  T* operator->() { return &std::get<0>(content_); }
  const T* operator->() const { return &std::get<0>(content_); }
  const std::string& error() const { return std::get<1>(content_).text; }

 private:
  std::variant<T, Error> content_;
};

struct Ok {};
/// Success without a value, or the reason for the failure.
using Status = Result<Ok>;

/// An Error that ends in the text of `errno_value`.
template <class... Parts>
Error errno_error(int errno_value, const Parts&... what) {
  return Error{concat(what..., ": ",
                      std::strerror(errno_value))};  // NOLINT(concurrency-mt-unsafe): no threads
}

}  // namespace mandos
