// SLUICE_RETURN_IF_ERROR and SLUICE_ASSIGN_OR_RETURN for absl::Status.
// (Abseil's own absl/status/status_macros.h is newer than the LTS we build with.)
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SLUICE_CONCAT_(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_(a, b)

// Returns from the enclosing function if `expr` (an absl::Status) is not OK.
#define SLUICE_RETURN_IF_ERROR(expr)                                                       \
  do {                                                                                     \
    if (absl::Status sluice_status_ = (expr); !sluice_status_.ok()) return sluice_status_; \
  } while (false)

// SLUICE_ASSIGN_OR_RETURN(auto blocks, pool.Allocate(n));
#define SLUICE_ASSIGN_OR_RETURN(lhs, expr) \
  SLUICE_ASSIGN_OR_RETURN_(SLUICE_CONCAT(sluice_statusor_, __LINE__), lhs, expr)
#define SLUICE_ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return std::move(tmp).status(); \
  lhs = *std::move(tmp)
